"""Budgets, fraud alarms and the kill switch: what keeps a stolen password from becoming a bill (domain section 7)."""
