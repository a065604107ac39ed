/* The network by WASI 0.3. */
#include <string.h>

#include "command.h"
#include "matrix.h"

#define TCP(name) wasi_sockets_types_method_tcp_socket_##name
#define UDP(name) wasi_sockets_types_method_udp_socket_##name
#define DNS(name) wasi_sockets_ip_name_lookup_##name

typedef wasi_sockets_types_own_tcp_socket_t tcp_t;
typedef wasi_sockets_types_own_udp_socket_t udp_t;
typedef wasi_sockets_types_error_code_t code_t;
typedef wasi_sockets_types_ip_socket_address_t remote_t;

static const char *names[] = {
    "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout", "invalid-state",
    "address-not-bindable", "address-in-use", "remote-unreachable", "connection-refused",
    "connection-broken", "connection-reset", "connection-aborted", "datagram-too-large", "other",
};
static const char *dns_names[] = {
    "access-denied", "invalid-argument", "name-unresolvable", "temporary-resolver-failure",
    "permanent-resolver-failure", "other",
};

/* What failed, after the stage before it, if that is not the step itself. */
static bool failed(const char *stage, code_t code) {
    return say("%s%s%s", stage, *stage ? ":" : "", names[code.tag]);
}

static remote_t remote(address_t a) {
    remote_t to = {.tag = a.v6};
    if (a.v6)
        to.val.ipv6 = (wasi_sockets_types_ipv6_socket_address_t){
            a.port, 0, {a.parts[0], a.parts[1], a.parts[2], a.parts[3], a.parts[4], a.parts[5], a.parts[6], a.parts[7]}, 0};
    else
        to.val.ipv4 = (wasi_sockets_types_ipv4_socket_address_t){
            a.port, {a.parts[0], a.parts[1], a.parts[2], a.parts[3]}};
    return to;
}

static tcp_t tcp_held;
static bool tcp_is_held;

static bool create_tcp(bool v6, tcp_t *made, const char *stage) {
    code_t code;
    return wasi_sockets_types_static_tcp_socket_create(v6, made, &code) || failed(stage, code);
}

static bool connect_with(tcp_t socket, address_t to, const char *stage) {
    code_t code;
    remote_t there = remote(to);
    return TCP(connect)(wasi_sockets_types_borrow_tcp_socket(socket), &there, &code) || failed(stage, code);
}

static bool connect_(address_t to, const char *stage) {
    tcp_t socket;
    return create_tcp(to.v6, &socket, "socket") && connect_with(socket, to, stage);
}

static bool bind_(address_t local, tcp_t *socket, const char *stage) {
    code_t code;
    remote_t here = remote(local);
    return create_tcp(local.v6, socket, "socket") &&
           (TCP(bind)(wasi_sockets_types_borrow_tcp_socket(*socket), &here, &code) || failed(stage, code));
}

static bool listen_(address_t local, wasi_sockets_types_stream_own_tcp_socket_t *connections) {
    tcp_t socket;
    code_t code;
    return bind_(local, &socket, "bind") &&
           (TCP(listen)(wasi_sockets_types_borrow_tcp_socket(socket), connections, &code) || failed("", code));
}

static bool accept_(address_t local) {
    wasi_sockets_types_stream_own_tcp_socket_t connections;
    tcp_t taken;
    if (!listen_(local, &connections) || !connect_(local, "connect")) return false;
    command_waitable_status_t status = wasi_sockets_types_stream_own_tcp_socket_read(connections, &taken, 1);
    if (status == COMMAND_WAITABLE_STATUS_BLOCKED) {
        command_waitable_set_t set = command_waitable_set_new();
        command_event_t event;
        command_waitable_join(connections, set);
        command_waitable_set_wait(set, &event);
        status = event.code;
    }
    return COMMAND_WAITABLE_COUNT(status) || said("accept:end");
}

static bool udp_(address_t local, udp_t *socket) {
    code_t code;
    remote_t here = remote(local);
    if (!wasi_sockets_types_static_udp_socket_create(local.v6, socket, &code)) return failed("socket", code);
    return UDP(bind)(wasi_sockets_types_borrow_udp_socket(*socket), &here, &code) || failed("bind", code);
}

/* Sends a datagram to each address; with `local`, from there, and to the first alone;
   with `answered`, waits for an answer. */
static bool send_(step_t *step, const address_t *local, bool connected, bool answered) {
    udp_t socket;
    code_t code;
    int count = local ? 1 : step->count;
    for (int i = 0; i < count; i++) {
        address_t to;
        if (!address(step, i, &to)) return false;
        remote_t there = remote(to);
        address_t any = {to.v6};
        if (i == 0 && !udp_(local ? *local : any, &socket)) return false;
        if (connected && !UDP(connect)(wasi_sockets_types_borrow_udp_socket(socket), &there, &code)) return failed("connect", code);
        command_list_u8_t data = {(uint8_t *)"x", 1};
        if (!UDP(send)(wasi_sockets_types_borrow_udp_socket(socket), &data, connected ? NULL : &there, &code))
            return i ? say("%d-sent", i) : failed("", code);
    }
    wasi_sockets_types_tuple2_list_u8_ip_socket_address_t got;
    return !answered || UDP(receive)(wasi_sockets_types_borrow_udp_socket(socket), &got, &code) || failed("receive", code);
}

/* The addresses of a name. */
static bool look_up(bytes_t name, DNS(list_ip_address_t) *found, const char *stage) {
    command_string_t text = {(uint8_t *)name.at, name.len};
    DNS(error_code_t) code;
    if (DNS(resolve_addresses)(&text, found, &code)) return true;
    return say("%s%s%s", stage, *stage ? ":" : "", dns_names[code.tag]);
}

static bool dial(step_t *step) {
    DNS(list_ip_address_t) found;
    if (!look_up(step->args[0], &found, "lookup")) return false;
    said("none");
    for (size_t i = 0; i < found.len; i++) {
        address_t to = {found.ptr[i].tag, number(step, 1)};
        if (to.v6) memcpy(to.parts, &found.ptr[i].val.ipv6, sizeof to.parts);
        else
            to = (address_t){false, to.port, {found.ptr[i].val.ipv4.f0, found.ptr[i].val.ipv4.f1, found.ptr[i].val.ipv4.f2, found.ptr[i].val.ipv4.f3}};
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
        fine = wasi_sockets_types_static_udp_socket_create(0, &datagrams, &code) || failed("", code);
    } else if (is(op, "socket")) fine = tcp_is_held = create_tcp(false, &tcp_held, "");
    else if (is(op, "connect")) fine = address(step, 0, &at) && connect_(at, "");
    else if (is(op, "connect-early")) fine = tcp_is_held && address(step, 0, &at) && connect_with(tcp_held, at, "");
    else if (is(op, "dial")) fine = dial(step);
    else if (is(op, "bind")) fine = address(step, 0, &at) && bind_(at, &socket, "");
    else if (is(op, "listen")) {
        wasi_sockets_types_stream_own_tcp_socket_t connections;
        fine = address(step, 0, &at) && listen_(at, &connections);
    } else if (is(op, "accept")) fine = address(step, 0, &at) && accept_(at);
    else if (is(op, "udp-bind")) fine = address(step, 0, &at) && udp_(at, &datagrams);
    else if (is(op, "send") || is(op, "send-many")) fine = send_(step, NULL, false, false);
    else if (is(op, "send-connected")) fine = send_(step, NULL, true, false);
    else if (is(op, "echo")) fine = send_(step, &local, false, true);
    else if (is(op, "send-from")) fine = address(step, 1, &local) && send_(step, &local, false, false);
    else if (is(op, "lookup")) {
        DNS(list_ip_address_t) found;
        fine = look_up(step->args[0], &found, "") && (found.len || said("none"));
    } else return false;
    if (fine) said("ok");
    return true;
}
