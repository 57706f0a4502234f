<?php
// Calls a gRPC service over HTTP/1.1, with nothing but PHP: see docs/grpc-bridge.md.
//
//     php examples/grpc-bridge/call.php localhost:9000 you

/** Sends a message, encoded, and gives the one that comes back. Throws what the service told. */
function call(string $proxy, string $method, string $message): string
{
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => "content-type: application/x-protobuf\r\ngrpc-timeout: 2S",
        'content' => $message,
        'ignore_errors' => true,
    ]]);
    $answer = file_get_contents("http://$proxy/$method", false, $context);
    foreach ($http_response_header ?? [] as $line) {
        if (preg_match('/^grpc-status: *(\d+)/i', $line, $status) && $status[1] !== '0') {
            throw new RuntimeException("status $status[1]: " . implode("\n", $http_response_header));
        }
    }
    return $answer;
}

[, $proxy, $name] = $argv;
// message HelloRequest { string greeting = 1; }  message HelloResponse { string reply = 1; }
$reply = call($proxy, 'hello.HelloService/SayHello', "\x0a" . chr(strlen($name)) . $name);
echo substr($reply, 2), "\n";
