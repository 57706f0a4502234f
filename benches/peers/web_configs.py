"""What web.py starts proxies with: what those who run them between services write, with room for
the doors by name (`{h1}`, `{h2_h1}`, `{h2}`, `{grpc}`), the server, and where logs go."""

HAPROXY = """
global
  nbthread 1
  maxconn 8000
  log stdout format raw local0 info
  stats socket {scratch}/haproxy.sock
defaults
  mode http
  log global
  log-format '{{"time":"%tr","listener":"%f","peer":"%ci:%cp","method":"%HM","path":"%HU","protocol":"%HV","status":%ST,"request_bytes":%U,"reply_bytes":%B,"duration_ms":%Ta,"endpoint":"%si:%sp"}}'
  option http-keep-alive
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen h1
  bind {h1}{haproxy_tls}
  http-request set-header x-request-id %[uuid()]
  server web {upstream}
listen h2-h1
  bind {h2_h1} proto h2{haproxy_tls}
  http-request set-header x-request-id %[uuid()]
  server web {upstream}
listen h2
  bind {h2} proto h2{haproxy_tls}
  http-request set-header x-request-id %[uuid()]
  server web {upstream} proto h2
listen grpc
  bind {grpc} proto h2{haproxy_tls}
  http-request set-header x-request-id %[uuid()]
  server web {upstream} proto h2
"""

# It would otherwise close each connection after a thousand requests, at either side.
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log stderr;
events {{ worker_connections 16000; }}
http {{
  client_body_temp_path {scratch}/client;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  log_format json escape=json '{{"time":"$time_iso8601","listener":"$server_port","peer":"$remote_addr:$remote_port","method":"$request_method","path":"$request_uri","protocol":"$server_protocol","status":$status,"request_bytes":$request_length,"reply_bytes":$bytes_sent,"duration_s":$request_time,"endpoint":"$upstream_addr"}}';
  access_log {scratch}/nginx-access.log json buffer=64k flush=1s;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  upstream web {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  # Kept connections of different protocols must not meet in one pool.
  upstream rpc {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  {nginx_tls}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Request-ID $request_id;
  grpc_set_header Host $host;
  grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  grpc_set_header X-Forwarded-Proto $scheme;
  grpc_set_header X-Request-ID $request_id;
  server {{
    listen {h1}{nginx_listen};
    location / {{ proxy_pass http://web; }}
    location = /status {{ stub_status; }}
  }}
  server {{
    listen {h2_h1}{nginx_listen} http2;
    location / {{ proxy_pass http://web; }}
  }}
  server {{
    listen {grpc}{nginx_listen} http2;
    location / {{ grpc_pass grpc://rpc; }}
  }}
}}
"""

_ENVOY = """
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
{listeners}
  clusters:
{clusters}
"""

_ENVOY_LISTENER = """
  - name: {door}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {door}
          codec_type: {codec}
          use_remote_address: true
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {scratch}/envoy-access.log
              log_format:
                json_format:
                  time: "%START_TIME%"
                  listener: {door}
                  peer: "%DOWNSTREAM_REMOTE_ADDRESS%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(:PATH)%"
                  protocol: "%PROTOCOL%"
                  status: "%RESPONSE_CODE%"
                  request_bytes: "%BYTES_RECEIVED%"
                  reply_bytes: "%BYTES_SENT%"
                  duration_ms: "%DURATION%"
                  endpoint: "%UPSTREAM_HOST%"
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }} ]
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router{envoy_tls}
"""

_ENVOY_CLUSTER = """
  - name: version-{version}
    type: STATIC
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ {options}: {{}} }}
"""


def envoy(upstream_port, ports, scratch, tls):
    """Envoy's config with a listener for each of these doors."""
    clusters = [
        _ENVOY_CLUSTER.format(version=1, port=upstream_port, options="http_protocol_options"),
        _ENVOY_CLUSTER.format(version=2, port=upstream_port, options="http2_protocol_options"),
    ]
    listeners = [_envoy_listener(door, port, scratch, tls) for door, port in ports.items()]
    return _ENVOY.format(listeners="".join(listeners), clusters="".join(clusters))


def _envoy_listener(door, port, scratch, tls):
    """It has its version of HTTP on both sides."""
    codec = "HTTP1" if door == "h1" else "HTTP2"
    cluster = "version-2" if door in ("h2", "grpc") else "version-1"
    given = {"door": door, "port": port, "scratch": scratch}
    return _ENVOY_LISTENER.format(codec=codec, cluster=cluster, **given, **tls)


_TOLLGATE = """
admin: 127.0.0.1:0
workers: 1
access_log: {{ path: {scratch}/tollgate-access.log }}
listeners:
{listeners}
clusters:
{clusters}
"""


def tollgate(upstream, ports, scratch, tls):
    """Tollgate's config, in which each of these doors has a listener and a cluster."""
    listeners = [
        f'  {door}: {{ address: "127.0.0.1:{port}", protocol: {_protocol(door)}, cluster: {door}'
        f"{tls['tollgate_tls']} }}"
        for door, port in ports.items()
    ]
    clusters = [f'  {door}: {{ endpoints: ["{upstream}"]{_version(door)} }}' for door in ports]
    listeners, clusters = "\n".join(listeners), "\n".join(clusters)
    return _TOLLGATE.format(scratch=scratch, listeners=listeners, clusters=clusters)


def _protocol(door):
    return "grpc" if door == "grpc" else "http"


def _version(door):
    """HTTP/1.1 is what a cluster has unless told otherwise, and HTTP/2 behind `grpc`."""
    return ", http: { version: 2 }" if door == "h2" else ""
