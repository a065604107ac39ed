/* The network by WASI 0.2. */
#include <string.h>

#include "command.h"
#include "matrix.h"

#define TCP(name) wasi_sockets_tcp_method_tcp_socket_##name
#define UDP(name) wasi_sockets_udp_method_udp_socket_##name
#define DNS(name) wasi_sockets_ip_name_lookup_##name

typedef wasi_sockets_tcp_own_tcp_socket_t tcp_t;
typedef wasi_sockets_udp_own_udp_socket_t udp_t;
typedef wasi_sockets_network_error_code_t code_t;
typedef wasi_sockets_network_ip_socket_address_t remote_t;

#define WOULD_BLOCK WASI_SOCKETS_NETWORK_ERROR_CODE_WOULD_BLOCK

static const char *names[] = {
    "unknown", "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout",
    "concurrency-conflict", "not-in-progress", "would-block", "invalid-state", "new-socket-limit",
    "address-not-bindable", "address-in-use", "remote-unreachable", "connection-refused",
    "connection-reset", "connection-aborted", "datagram-too-large", "name-unresolvable",
    "temporary-resolver-failure", "permanent-resolver-failure",
};

/* What failed, after the stage before it, if that is not the step itself. */
static bool failed(const char *stage, code_t code) {
    return say("%s%s%s", stage, *stage ? ":" : "", names[code]);
}

static wasi_sockets_network_borrow_network_t net(void) {
    static wasi_sockets_network_own_network_t network;
    static bool made;
    if (!made) network = wasi_sockets_instance_network_instance_network();
    made = true;
    return wasi_sockets_network_borrow_network(network);
}

static remote_t remote(address_t a) {
    remote_t to = {.tag = a.v6};
    if (a.v6)
        to.val.ipv6 = (wasi_sockets_network_ipv6_socket_address_t){
            a.port, 0, {a.parts[0], a.parts[1], a.parts[2], a.parts[3], a.parts[4], a.parts[5], a.parts[6], a.parts[7]}, 0};
    else
        to.val.ipv4 = (wasi_sockets_network_ipv4_socket_address_t){
            a.port, {a.parts[0], a.parts[1], a.parts[2], a.parts[3]}};
    return to;
}

static void wait_for(wasi_io_poll_own_pollable_t ready) {
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
    wasi_io_poll_pollable_drop_own(ready);
}

static tcp_t tcp_held;
static bool tcp_is_held;

static bool create_tcp(bool v6, tcp_t *made, const char *stage) {
    code_t code;
    return wasi_sockets_tcp_create_socket_create_tcp_socket(v6, made, &code) || failed(stage, code);
}

static bool connect_with(tcp_t socket, address_t to, const char *stage) {
    code_t code;
    remote_t there = remote(to);
    wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
    if (!TCP(start_connect)(wasi_sockets_tcp_borrow_tcp_socket(socket), net(), &there, &code)) return failed(stage, code);
    while (!TCP(finish_connect)(wasi_sockets_tcp_borrow_tcp_socket(socket), &streams, &code)) {
        if (code != WOULD_BLOCK) return failed(stage, code);
        wait_for(TCP(subscribe)(wasi_sockets_tcp_borrow_tcp_socket(socket)));
    }
    return true;
}

static bool connect_(address_t to, const char *stage) {
    tcp_t socket;
    return create_tcp(to.v6, &socket, "socket") && connect_with(socket, to, stage);
}

static bool bind_(address_t local, tcp_t *socket, const char *stage) {
    code_t code;
    remote_t here = remote(local);
    if (!create_tcp(local.v6, socket, "socket")) return false;
    if (!TCP(start_bind)(wasi_sockets_tcp_borrow_tcp_socket(*socket), net(), &here, &code)) return failed(stage, code);
    while (!TCP(finish_bind)(wasi_sockets_tcp_borrow_tcp_socket(*socket), &code)) {
        if (code != WOULD_BLOCK) return failed(stage, code);
        wait_for(TCP(subscribe)(wasi_sockets_tcp_borrow_tcp_socket(*socket)));
    }
    return true;
}

static bool listen_(address_t local, tcp_t *socket) {
    code_t code;
    if (!bind_(local, socket, "bind")) return false;
    if (!TCP(start_listen)(wasi_sockets_tcp_borrow_tcp_socket(*socket), &code)) return failed("", code);
    while (!TCP(finish_listen)(wasi_sockets_tcp_borrow_tcp_socket(*socket), &code)) {
        if (code != WOULD_BLOCK) return failed("", code);
        wait_for(TCP(subscribe)(wasi_sockets_tcp_borrow_tcp_socket(*socket)));
    }
    return true;
}

static bool accept_(address_t local) {
    tcp_t socket;
    code_t code;
    wasi_sockets_tcp_tuple3_own_tcp_socket_own_input_stream_own_output_stream_t taken;
    if (!listen_(local, &socket) || !connect_(local, "connect")) return false;
    while (!TCP(accept)(wasi_sockets_tcp_borrow_tcp_socket(socket), &taken, &code)) {
        if (code != WOULD_BLOCK) return failed("accept", code);
        wait_for(TCP(subscribe)(wasi_sockets_tcp_borrow_tcp_socket(socket)));
    }
    return true;
}

static bool udp_(address_t local, udp_t *socket) {
    code_t code;
    remote_t here = remote(local);
    if (!wasi_sockets_udp_create_socket_create_udp_socket(local.v6, socket, &code)) return failed("socket", code);
    if (!UDP(start_bind)(wasi_sockets_udp_borrow_udp_socket(*socket), net(), &here, &code)) return failed("bind", code);
    while (!UDP(finish_bind)(wasi_sockets_udp_borrow_udp_socket(*socket), &code)) {
        if (code != WOULD_BLOCK) return failed("bind", code);
        wait_for(UDP(subscribe)(wasi_sockets_udp_borrow_udp_socket(*socket)));
    }
    return true;
}

/* Sends a datagram to each address; with `local`, from there, and to the first alone;
   with `answered`, waits for an answer. */
static bool send_(step_t *step, const address_t *local, bool connected, bool answered) {
    address_t to[ARGS];
    remote_t there[ARGS];
    wasi_sockets_udp_outgoing_datagram_t out[ARGS];
    int count = local ? 1 : step->count;
    for (int i = 0; i < count; i++) {
        if (!address(step, i, &to[i])) return false;
        there[i] = remote(to[i]);
        out[i] = (wasi_sockets_udp_outgoing_datagram_t){{(uint8_t *)"x", 1}, {.is_some = !connected}};
        out[i].remote_address.val = there[i];
    }
    address_t any = {to[0].v6};
    udp_t socket;
    code_t code;
    wasi_sockets_udp_tuple2_own_incoming_datagram_stream_own_outgoing_datagram_stream_t streams;
    if (!udp_(local ? *local : any, &socket)) return false;
    if (!UDP(stream)(wasi_sockets_udp_borrow_udp_socket(socket), connected ? &there[0] : NULL, &streams, &code))
        return failed("connect", code);
    wasi_sockets_udp_borrow_outgoing_datagram_stream_t sender = wasi_sockets_udp_borrow_outgoing_datagram_stream(streams.f1);
    uint64_t sent = 0;
    for (;;) {
        if (!wasi_sockets_udp_method_outgoing_datagram_stream_check_send(sender, &sent, &code)) return failed("", code);
        if (sent >= (uint64_t)count) break;
        wait_for(wasi_sockets_udp_method_outgoing_datagram_stream_subscribe(sender));
    }
    wasi_sockets_udp_list_outgoing_datagram_t list = {out, count};
    if (!wasi_sockets_udp_method_outgoing_datagram_stream_send(sender, &list, &sent, &code)) return failed("", code);
    if (sent < (uint64_t)count) return say("%d-sent", (int)sent);
    while (answered) {
        wasi_sockets_udp_list_incoming_datagram_t got;
        wasi_sockets_udp_borrow_incoming_datagram_stream_t receiver = wasi_sockets_udp_borrow_incoming_datagram_stream(streams.f0);
        if (!wasi_sockets_udp_method_incoming_datagram_stream_receive(receiver, 1, &got, &code)) return failed("receive", code);
        if (got.len) break;
        wait_for(wasi_sockets_udp_method_incoming_datagram_stream_subscribe(receiver));
    }
    return true;
}

/* The addresses of a name, at most so many. */
static int look_up(bytes_t name, wasi_sockets_network_ip_address_t *found, int most, const char *stage) {
    command_string_t text = {(uint8_t *)name.at, name.len};
    DNS(own_resolve_address_stream_t) stream;
    code_t code;
    int count = 0;
    if (!DNS(resolve_addresses)(net(), &text, &stream, &code)) {
        failed(stage, code);
        return -1;
    }
    for (;;) {
        DNS(option_ip_address_t) next;
        DNS(borrow_resolve_address_stream_t) from = DNS(borrow_resolve_address_stream)(stream);
        if (!DNS(method_resolve_address_stream_resolve_next_address)(from, &next, &code)) {
            if (code != WOULD_BLOCK) {
                failed(stage, code);
                return -1;
            }
            wait_for(DNS(method_resolve_address_stream_subscribe)(from));
        } else if (!next.is_some) {
            return count;
        } else if (count < most) {
            found[count++] = next.val;
        }
    }
}

static bool dial(step_t *step) {
    wasi_sockets_network_ip_address_t found[64];
    int count = look_up(step->args[0], found, 64, "lookup");
    if (count < 0) return false;
    said("none");
    for (int i = 0; i < count; i++) {
        address_t to = {found[i].tag, number(step, 1)};
        if (to.v6) memcpy(to.parts, &found[i].val.ipv6, sizeof to.parts);
        else to = (address_t){false, to.port, {found[i].val.ipv4.f0, found[i].val.ipv4.f1, found[i].val.ipv4.f2, found[i].val.ipv4.f3}};
        if (connect_(to, "")) return true;
    }
    return false;
}

bool network(step_t *step) {
    const char *op = step->op;
    address_t at = {0}, local = {0};
    tcp_t socket;
    udp_t datagrams;
    bool fine;
    if (is(op, "socket") && is(step->args[0].at, "udp")) {
        code_t code;
        fine = wasi_sockets_udp_create_socket_create_udp_socket(0, &datagrams, &code) || failed("", code);
    } else if (is(op, "socket")) fine = tcp_is_held = create_tcp(false, &tcp_held, "");
    else if (is(op, "connect")) fine = address(step, 0, &at) && connect_(at, "");
    else if (is(op, "connect-early")) fine = tcp_is_held && address(step, 0, &at) && connect_with(tcp_held, at, "");
    else if (is(op, "dial")) fine = dial(step);
    else if (is(op, "bind")) fine = address(step, 0, &at) && bind_(at, &socket, "");
    else if (is(op, "listen")) fine = address(step, 0, &at) && listen_(at, &socket);
    else if (is(op, "accept")) fine = address(step, 0, &at) && accept_(at);
    else if (is(op, "udp-bind")) fine = address(step, 0, &at) && udp_(at, &datagrams);
    else if (is(op, "send") || is(op, "send-many")) fine = send_(step, NULL, false, false);
    else if (is(op, "send-connected")) fine = send_(step, NULL, true, false);
    else if (is(op, "echo")) fine = send_(step, &local, false, true);
    else if (is(op, "send-from")) fine = address(step, 1, &local) && send_(step, &local, false, false);
    else if (is(op, "lookup")) {
        wasi_sockets_network_ip_address_t found[64];
        int count = look_up(step->args[0], found, 64, "");
        fine = count > 0;
        if (!count) said("none");
    } else return false;
    if (fine) said("ok");
    return true;
}
