/* Phones that talk: RTP of 172 bytes every 20 ms on many pairs of sockets, each arrival timed by the kernel (bench/rtp.py).
 *
 * streams SECONDS < LINES     a line for each call: ports of side a and b, and the relay's ports that they send to
 *
 * The RTP timestamp is the time of sending in microseconds, so that each packet tells its delay. Prints one line of JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 20000
#define SIZE 172
#define STEP 10 /* microseconds in a bucket of the histogram */
#define BUCKETS 20000
#define WARM_UP 1000000 /* microseconds that do not count: the relay learns where each peer is */

static int sockets[MOST], count, poller;
static volatile int ends;
static uint64_t begun, until, sent, received, histogram[BUCKETS], latest;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int opened(const char *own, int port, int relay) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(relay)};
    int one = 1, s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    inet_pton(AF_INET, own, &here.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
    setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    if (s < 0 || bind(s, (void *)&here, sizeof here) || connect(s, (void *)&there, sizeof there)) {
        perror("socket");
        exit(1);
    }
    return s;
}

static void *receive(void *unused) {
    struct epoll_event events[256];
    while (!ends) {
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++)
            for (;;) {
                unsigned char data[1500], control[64];
                struct iovec part = {data, sizeof data};
                struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
                ssize_t size = recvmsg(events[i].data.fd, &m, 0);
                uint32_t stamp, at;
                struct timespec t;
                if (size < 0) {
                    if (errno == ECONNREFUSED) continue;
                    break;
                }
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                if (size < 12 || !c || c->cmsg_type != SCM_TIMESTAMPNS) continue;
                memcpy(&t, CMSG_DATA(c), sizeof t);
                memcpy(&stamp, data + 4, 4);
                stamp = ntohl(stamp);
                at = (uint32_t)((uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000);
                if ((int32_t)(stamp - (uint32_t)(begun + WARM_UP)) < 0) continue;
                uint32_t delay = (int32_t)(at - stamp) < 0 ? 0 : at - stamp;
                histogram[delay / STEP < BUCKETS ? delay / STEP : BUCKETS - 1]++;
                received++;
            }
    }
    return unused;
}

static uint64_t percentile(double share) {
    uint64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) >= share * received) return (uint64_t)i * STEP;
    return 0;
}

int main(int argc, char **argv) {
    int a, b, to_a, to_b;
    if (argc != 2) return 2;
    poller = epoll_create1(0);
    while (count + 2 <= MOST && scanf("%d %d %d %d", &a, &b, &to_a, &to_b) == 4) {
        sockets[count++] = opened("127.0.0.2", a, to_a);
        sockets[count++] = opened("127.0.0.3", b, to_b);
    }
    for (int i = 0; i < count; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = sockets[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, sockets[i], &e);
    }
    begun = now();
    until = begun + WARM_UP + (uint64_t)(atof(argv[1]) * 1e6);
    pthread_t receiver;
    pthread_create(&receiver, NULL, receive, NULL);
    unsigned char packet[SIZE] = {0x80, 8};
    for (uint64_t n = 0;; n++) { /* the packet n is that of stream n % count, evenly over the 20 ms */
        uint64_t due = begun + n * 20000 / count, at = now();
        while (at < due) {
            struct timespec rest = {0, (due - at < 200 ? 200 : due - at < 20000 ? due - at : 20000) * 1000};
            nanosleep(&rest, NULL);
            at = now();
        }
        if (at >= until) break;
        if (at - due > latest) latest = at - due;
        uint16_t number = htons(n / count);
        uint32_t stamp = htonl((uint32_t)at), source = htonl(n % count + 1);
        memcpy(packet + 2, &number, 2);
        memcpy(packet + 4, &stamp, 4);
        memcpy(packet + 8, &source, 4);
        ssize_t done = send(sockets[n % count], packet, SIZE, 0);
        if (done < 0 && errno == ECONNREFUSED) done = send(sockets[n % count], packet, SIZE, 0);
        if ((int32_t)((uint32_t)at - (uint32_t)(begun + WARM_UP)) >= 0) sent++;
    }
    usleep(300000);
    ends = 1;
    pthread_join(receiver, NULL);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"sent\": %lu, \"received\": %lu, \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"late_ms\": %.1f, \"cpu\": %.2f}\n",
           sent, received, percentile(.5) / 1e3, percentile(.99) / 1e3, latest / 1e3,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
