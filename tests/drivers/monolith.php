<?php
// A monolith that calls a gRPC service with nothing but curl: `monolith.php ADDRESS`. Its messages
// are written by hand, `Msg { text: "…" }`.

function call($handle, string $text): array
{
    $headers = [];
    curl_setopt_array($handle, [
        CURLOPT_POSTFIELDS => "\x0a" . chr(strlen($text)) . $text,
        CURLOPT_HTTPHEADER => ['content-type: application/x-protobuf', 'grpc-timeout: 5S'],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($_, string $line) use (&$headers): int {
            $parts = explode(':', $line, 2);
            if (count($parts) === 2) {
                $headers[strtolower($parts[0])] = trim($parts[1]);
            }
            return strlen($line);
        },
    ]);
    $body = curl_exec($handle);
    return [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $headers, $body];
}

function expect(bool $holds, mixed $seen): void
{
    if (!$holds) {
        fwrite(STDERR, var_export($seen, true));
        exit(1);
    }
}

$handle = curl_init("http://{$argv[1]}/real.v1.Echo/Unary");
for ($n = 0; $n < 20; $n++) {
    [$status, $headers, $body] = $seen = call($handle, "call $n");
    expect($status === 200 && $headers['grpc-status'] === '0', $seen);
    expect($body === "\x0a" . chr(strlen("call $n")) . "call $n", $seen);
}
[$status, $headers, $body] = $seen = call($handle, 'fail');
expect($status === 404 && $headers['grpc-status'] === '5' && $body === '', $seen);
expect(rawurldecode($headers['grpc-message']) === "no such: ü%\n", $seen);
