/* A load client: holds many WebSockets, publishes through a few connections more, counts what arrives.
 *
 *     load HOST PORT SOCKETS HEADERS READY COUNT PING PONG EXPECT AT_ONCE
 *
 * SOCKETS   a file, one socket a line: path TAB text frame to send after the handshake (may be empty)
 * HEADERS   more lines for the handshake, each ended by \r\n
 * READY     a socket is ready once it was sent a text frame that begins so; "" after the handshake
 * COUNT     a text frame that begins so is a delivery
 * PING PONG a text frame that begins with PING is answered with PONG; "" "" for none
 * EXPECT    and it is ready only after that many deliveries
 * AT_ONCE   handshakes under way at a time
 *
 * Prints "ready SECONDS COUNT" and then obeys lines on stdin:
 *
 *     run HOST PORT FILE WINDOW EACH   publish FILE's messages, at most WINDOW under way; each is done
 *                                      when it was delivered EACH times. They go through PUBLISHERS
 *                                      connections in turn, as a web process has. Prints "done SECONDS MESSAGES
 *                                      DELIVERIES P50_US P99_US LOST".
 *     quit
 *
 * FILE: for each message its length (uint32, this machine's order) and its bytes, which a publishing
 * connection is sent as they are; the message's number stands in it as @NNNNNNNN@, and again in what is
 * delivered. Written in C so that it is never what a figure measures: frames are counted by their
 * heads, and no byte of a payload is copied unless a frame is cut by the end of a read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
enum { CONNECTING, SHAKING, GREETING, GREETED, READY };
enum { PUBLISHERS = 16, PER_ADDRESS = 20000, READ_MAX = 1 << 18, LATENCIES_MAX = 8000000, QUIET_S = 20 };

struct peer {
    int fd, state;
    uint32_t deliveries, kept, room; /* bytes of a frame that is not whole yet, and what is allocated */
    char *path, *hello, *rest;
};

static struct peer *peers;
static int count, opened, ready, poller;
static const char *host, *headers, *is_ready, *is_count, *ping, *pong;
static size_t ready_len, count_len, ping_len;
static int port, at_once, under_way;
static uint32_t expect;
static struct sockaddr_in server;
static const uint64_t STDIN = 1u << 30, PUBLISHER = (1u << 30) + 1; /* what epoll says, beside the peers' indices */
static char buffer[READ_MAX + 65536 + 1024];

static char *messages;
static uint32_t *starts, *lengths, *left;
static int64_t *sent_at;
static uint32_t total, sent, done;
static uint64_t deliveries;
static float *latencies;
static uint32_t latency_count;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
    printf("error %s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

static void want(int fd, uint32_t events, uint64_t index, int how) {
    struct epoll_event event = {.events = events, .data.u64 = index};
    if (epoll_ctl(poller, how, fd, &event) < 0) die("epoll_ctl");
}

static void send_text(struct peer *p, const char *text) {
    size_t length = strlen(text), head = 2;
    char frame[2048];
    if (length > 1900) die("hello too long");
    frame[0] = (char)0x81;
    if (length < 126) {
        frame[1] = (char)(0x80 | length);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(length >> 8);
        frame[3] = (char)length;
        head = 4;
    }
    memset(frame + head, 0, 4); /* a mask of zeros: RFC 6455 wants one, its value is ours */
    memcpy(frame + head + 4, text, length);
    if (write(p->fd, frame, head + 4 + length) != (ssize_t)(head + 4 + length)) die("write");
}

static void open_next(void) {
    while (opened < count && under_way < at_once) {
        struct peer *p = &peers[opened];
        int one = 1;
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (p->fd < 0) die("socket");
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + opened / PER_ADDRESS);
        setsockopt(p->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (bind(p->fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind");
        if (connect(p->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
            die("connect");
        want(p->fd, EPOLLOUT, (uint64_t)opened, EPOLL_CTL_ADD);
        opened++;
        under_way++;
    }
}

static void shake(struct peer *p, uint64_t index) {
    char request[4096];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        errno = error;
        die("connect");
    }
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n",
        p->path, host, port, headers);
    if (write(p->fd, request, (size_t)length) != length) die("write");
    p->state = SHAKING;
    want(p->fd, EPOLLIN, index, EPOLL_CTL_MOD);
}

static void maybe_ready(struct peer *p) {
    if (p->state == GREETED && p->deliveries >= expect) {
        p->state = READY;
        ready++;
        under_way--;
        open_next();
    }
}

static void text_frame(struct peer *p, const char *data, size_t length) {
    if (count_len <= length && memcmp(data, is_count, count_len) == 0) {
        p->deliveries++;
        const char *mark = memchr(data, '@', length);
        if (mark && total && data + length - mark > 9) {
            uint32_t number = 0;
            for (int i = 1; i <= 8; i++) number = number * 10 + (uint32_t)(mark[i] - '0');
            if (number < sent && left[number]) {
                deliveries++;
                if (latency_count < LATENCIES_MAX)
                    latencies[latency_count++] = (float)(now_ns() - sent_at[number]) / 1000;
                if (--left[number] == 0) done++;
            }
        }
    } else if (ping_len && ping_len <= length && memcmp(data, ping, ping_len) == 0) {
        send_text(p, pong);
    }
    if (p->state == GREETING && ready_len <= length && memcmp(data, is_ready, ready_len) == 0)
        p->state = GREETED;
    if (p->state == GREETED) maybe_ready(p);
}

/* Whole frames out of [at, end); returns where the first one begins that is cut. */
static char *frames(struct peer *p, char *at, char *end) {
    while (end - at >= 2) {
        size_t length = (unsigned char)at[1] & 127, head = 2;
        if (length == 126) {
            if (end - at < 4) break;
            length = (size_t)(unsigned char)at[2] << 8 | (unsigned char)at[3];
            head = 4;
        } else if (length == 127) {
            if (end - at < 10) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | (unsigned char)at[i];
            head = 10;
        }
        if ((size_t)(end - at) < head + length) break;
        int opcode = at[0] & 15;
        if (opcode == 8) {
            printf("error closed: code %d\n", length >= 2 ? (unsigned char)at[head] << 8 | (unsigned char)at[head + 1] : 0);
            fflush(stdout);
            exit(1);
        }
        if (opcode == 9) { /* a ping of the protocol's own: the same bytes, masked with zeros */
            char frame[140] = {(char)0x8a, (char)(0x80 | length)};
            memcpy(frame + 6, at + head, length);
            if (write(p->fd, frame, 6 + length) < 0) die("pong");
        }
        if (opcode == 1 || opcode == 2) text_frame(p, at + head, length);
        at += head + length;
    }
    return at;
}

static void readable(struct peer *p) {
    size_t kept = p->kept;
    if (kept) memcpy(buffer, p->rest, kept);
    ssize_t got = read(p->fd, buffer + kept, READ_MAX);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        buffer[kept] = 0;
        if (p->state == SHAKING) printf("error refused: %.400s\n", buffer);
        die("closed by the server");
    }
    char *at = buffer, *end = buffer + kept + got;
    if (p->state == SHAKING) {
        char *over = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (over) {
            if (memcmp(at, "HTTP/1.1 101", 12) != 0) {
                *end = 0;
                printf("error refused: %.600s\n", at);
                fflush(stdout);
                exit(1);
            }
            at = over + 4;
            p->state = ready_len ? GREETING : GREETED;
            if (*p->hello) send_text(p, p->hello);
            maybe_ready(p);
        } else {
            goto keep;
        }
    }
    at = frames(p, at, end);
keep:;
    size_t rest = (size_t)(end - at);
    if (rest > p->room) {
        p->room = (uint32_t)(rest < 1024 ? 1024 : rest * 2);
        p->rest = realloc(p->rest, p->room);
        if (!p->rest) die("realloc");
    }
    if (rest) memcpy(p->rest, at, rest);
    p->kept = (uint32_t)rest;
    if (p->kept > 65536) die("frame too large");
    if (!p->kept && p->rest) {
        free(p->rest);
        p->rest = NULL;
        p->room = 0;
    }
}

static struct epoll_event events[1024];

/* Handles what has happened on the peers; returns the number of events that were not theirs. */
static int turn(int timeout_ms, uint64_t *others) {
    int other = 0, found = epoll_wait(poller, events, 1024, timeout_ms);
    if (found < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < found; i++) {
        uint64_t index = events[i].data.u64;
        if (index >= (uint64_t)count) {
            others[other++] = index;
        } else if (peers[index].state == CONNECTING) {
            shake(&peers[index], index);
        } else {
            readable(&peers[index]);
        }
    }
    return other;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void load_messages(const char *path, uint32_t each) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    messages = realloc(messages, size);
    if (fread(messages, 1, size, file) != size) die(path);
    fclose(file);
    total = 0;
    for (size_t at = 0; at < size; total++) {
        uint32_t length;
        memcpy(&length, messages + at, 4);
        at += 4 + length;
    }
    starts = realloc(starts, total * sizeof *starts);
    lengths = realloc(lengths, total * sizeof *lengths);
    left = realloc(left, total * sizeof *left);
    sent_at = realloc(sent_at, total * sizeof *sent_at);
    size_t at = 0;
    for (uint32_t i = 0; i < total; i++) {
        memcpy(&lengths[i], messages + at, 4);
        starts[i] = (uint32_t)(at + 4);
        left[i] = each;
        at += 4 + lengths[i];
    }
}

static void run(const char *to, int to_port, const char *path, uint32_t window, uint32_t each) {
    uint64_t others[1024];
    static char replies[65536];
    load_messages(path, each);
    sent = done = latency_count = 0;
    deliveries = 0;
    int fds[PUBLISHERS], one = 1;
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to_port)};
    inet_pton(AF_INET, to, &target.sin_addr);
    for (int i = 0; i < PUBLISHERS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fds[i], (struct sockaddr *)&target, sizeof target) < 0) die("connect to publish");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        want(fds[i], EPOLLIN, PUBLISHER + (uint64_t)i, EPOLL_CTL_ADD);
    }
    int64_t began = now_ns(), heard = began;
    uint64_t before = 0;
    while (done < total) {
        while (sent < total && sent - done < window) {
            sent_at[sent] = now_ns();
            const char *data = messages + starts[sent];
            size_t length = lengths[sent];
            int fd = fds[sent % PUBLISHERS];
            sent++;
            while (length) { /* it blocks only when 32 messages do not fit into the socket */
                ssize_t wrote = write(fd, data, length);
                if (wrote < 0) die("publish");
                data += wrote;
                length -= (size_t)wrote;
            }
        }
        int other = turn(1000, others);
        for (int i = 0; i < other; i++) {
            if (others[i] < PUBLISHER) continue;
            ssize_t got = read(fds[others[i] - PUBLISHER], replies, sizeof replies - 1);
            if (got <= 0) die("publish: closed");
            replies[got] = 0;
            if (replies[0] == '-' || strstr(replies, "HTTP/1.1 4") || strstr(replies, "HTTP/1.1 5")) {
                printf("error publish: %.300s\n", replies);
                fflush(stdout);
                exit(1);
            }
        }
        if (deliveries != before) {
            before = deliveries;
            heard = now_ns();
        } else if (now_ns() - heard > (int64_t)QUIET_S * 1000000000) {
            break;
        }
    }
    double seconds = (double)((done < total ? heard : now_ns()) - began) / 1e9;
    for (int i = 0; i < PUBLISHERS; i++) close(fds[i]);
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    uint64_t lost = (uint64_t)sent * each - deliveries;
    printf("done %.6f %u %llu %.1f %.1f %llu\n", seconds, sent, (unsigned long long)deliveries,
        latency_count ? (double)latencies[latency_count / 2] : 0.0,
        latency_count ? (double)latencies[(uint32_t)((double)latency_count * 0.99)] : 0.0,
        (unsigned long long)lost);
    fflush(stdout);
    total = 0;
}

static void read_sockets(const char *path) {
    static char line[8192];
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *tab = strchr(line, '\t');
        peers = realloc(peers, sizeof *peers * (size_t)(count + 1));
        memset(&peers[count], 0, sizeof *peers);
        peers[count].hello = strdup(tab ? tab + 1 : "");
        if (tab) *tab = 0;
        peers[count].path = strdup(line);
        count++;
    }
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc != 11) return fprintf(stderr, "see the top of load.c\n"), 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    host = argv[1], port = atoi(argv[2]);
    read_sockets(argv[3]);
    headers = argv[4], is_ready = argv[5], is_count = argv[6], ping = argv[7], pong = argv[8];
    ready_len = strlen(is_ready), count_len = strlen(is_count), ping_len = strlen(ping);
    expect = (uint32_t)atoi(argv[9]), at_once = atoi(argv[10]);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, host, &server.sin_addr);
    poller = epoll_create1(0);
    latencies = malloc(LATENCIES_MAX * sizeof *latencies);

    uint64_t others[1024];
    int64_t began = now_ns();
    open_next();
    while (ready < count) turn(1000, others);
    printf("ready %.6f %d\n", (double)(now_ns() - began) / 1e9, ready);
    fflush(stdout);

    static char line[4096];
    want(0, EPOLLIN, STDIN, EPOLL_CTL_ADD);
    for (;;) {
        int other = turn(1000, others), asked = 0;
        for (int i = 0; i < other; i++) asked |= others[i] == STDIN;
        if (!asked) continue;
        ssize_t got = read(0, line, sizeof line - 1); /* one command at a time, each a whole line */
        if (got <= 0) return 0;
        line[got] = 0;
        static char to[64], path[3000];
        int to_port;
        unsigned window, each;
        if (sscanf(line, "run %63s %d %2999s %u %u", to, &to_port, path, &window, &each) == 5)
            run(to, to_port, path, window, each);
        else if (strncmp(line, "quit", 4) == 0)
            return 0;
    }
}
