<?php
// A process that works without a pause while members fail, until stdin ends, as one worker of many:
// `php_failover.php URI COLLECTION WORKER`.
//
// It does what a thread of `pymongo_failover.py` does as `all`, and prints the same, but for the change
// stream. Its collections are there already.

use MongoDB\Driver\{BulkWrite, Command, Exception\RuntimeException, Manager, Query, Session};

[, $uri, $collection, $worker] = $argv;
$worker = (int) $worker;
$manager = new Manager("$uri&serverSelectionTryOnce=false&serverSelectionTimeoutMS=10000");
$shop = "drivers.$collection";

function insert(Manager $manager, string $name, string $key, array $options = []): void
{
    $write = new BulkWrite();
    $write->insert(['_id' => $key]);
    $manager->executeBulkWrite($name, $write, $options);
}

function count_one(Manager $manager, string $name, int $worker, array $options = []): void
{
    $write = new BulkWrite();
    $write->update(['_id' => $worker], ['$inc' => ['n' => 1]]);
    $manager->executeBulkWrite("{$name}_counters", $write, $options);
}

/** Runs a transaction, and again what can be run again, as PHP's library does. */
function with_transaction(Session $session, callable $body): void
{
    for ($begins = true; ; ) {
        try {
            if ($begins) {
                $session->startTransaction();
                $body(['session' => $session]);
            }
            $session->commitTransaction();
            return;
        } catch (RuntimeException $error) {
            if ($session->isInTransaction() && !$error->hasErrorLabel('UnknownTransactionCommitResult')) {
                $session->abortTransaction();
            }
            $begins = $error->hasErrorLabel('TransientTransactionError');
            if (!$begins && !$error->hasErrorLabel('UnknownTransactionCommitResult')) {
                throw $error;
            }
        }
    }
}

$operations = [
    'find' => function (string $key) use ($manager, $shop) {
        $manager->executeQuery($shop, new Query(['_id' => $key]))->toArray();
        return [[], 0];
    },
    'insert' => function (string $key) use ($manager, $shop) {
        insert($manager, $shop, $key);
        return [[$key], 0];
    },
    'count' => function (string $key) use ($manager, $shop, $worker) {
        count_one($manager, $shop, $worker);
        return [[], 1];
    },
    'insertTwo' => function (string $key) use ($manager, $shop, $worker) {
        $keys = ["$key-first", "$key-second"];
        $body = function (array $options) use ($manager, $shop, $keys, $worker) {
            foreach ($keys as $one) {
                insert($manager, $shop, $one, $options);
            }
            count_one($manager, $shop, $worker, $options);
        };
        with_transaction($manager->startSession(), $body);
        return [$keys, 1];
    },
];
$kind = array_keys($operations)[$worker % 4];
$report = ['done' => 0, 'errors' => [], 'keys' => [], 'counted' => 0, 'events' => []];
stream_set_blocking(STDIN, false);
while (!feof(STDIN)) {
    try {
        [$keys, $counted] = $operations[$kind]("$worker-{$report['done']}");
        array_push($report['keys'], ...$keys);
        $report['counted'] += $counted;
    } catch (RuntimeException $error) {
        $text = substr("$kind: " . get_class($error) . ': ' . $error->getMessage(), 0, 300);
        $report['errors'][$text] = ($report['errors'][$text] ?? 0) + 1;
    }
    if ($report['done']++ === 0) {
        echo "ready\n";
    }
    fread(STDIN, 1);
}
$report['errors'] = (object) $report['errors'];
echo json_encode($report), "\n";
