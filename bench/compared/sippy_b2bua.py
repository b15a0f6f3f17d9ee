"""Sippy's B2BUA as bench/compare.py starts it: its own program, with the callee chosen by the number dialled.

python sippy_b2bua.py NUMBER HOST:PORT [options of b2bua]     NUMBER goes there, others to --static_route
"""

import sys

from sippy import b2bua
from sippy.B2B.Route import B2BRoute
from sippy.SipContact import SipContact

_ROUTES = {sys.argv.pop(1): B2BRoute(sys.argv.pop(1))}


class _Controller(b2bua.CallController):
    def rDone(self, results):
        routes = self.global_config["_static_routes"]
        other = _ROUTES.get(self.cld)
        if other is None:
            super().rDone(results)
            return
        usual, routes[""] = routes[""], other
        super().rDone(results)
        routes[""] = usual


def _without_name(made):
    # SIPp 3.6 sends its ACK to all of `Anonymous <sip:...>`
    def init(self, body=None, address=None):
        made(self, body, address)
        if body is None and address is None:
            self.address.name = None

    return init


SipContact.__init__ = _without_name(SipContact.__init__)
b2bua.CallController = _Controller
if __name__ == "__main__":
    b2bua.main_func()
