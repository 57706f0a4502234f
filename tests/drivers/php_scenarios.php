<?php
// What a program does with PHP's driver, without its library: `php_scenarios.php URI COLLECTION`.

use MongoDB\Driver\{BulkWrite, Manager, Query, ReadPreference};

[, $uri, $collection] = $argv;
$manager = new Manager($uri);
$name = "drivers.$collection";

function expect(mixed $expected, mixed $seen): void
{
    if ($expected !== $seen) {
        throw new Exception(var_export($seen, true) . ', not ' . var_export($expected, true));
    }
}

/** Inserts documents with these keys. */
function insert(Manager $manager, string $name, array $keys, array $options = []): int
{
    $writes = new BulkWrite();
    foreach ($keys as $key) {
        $writes->insert(['_id' => $key, 'twice' => is_int($key) ? $key * 2 : null]);
    }
    return $manager->executeBulkWrite($name, $writes, $options)->getInsertedCount();
}

/** The number of documents, read in batches of ten. */
function count_all(Manager $manager, string $name, array $options = []): int
{
    $all = $manager->executeQuery($name, new Query([], ['batchSize' => 10]), $options);
    return count($all->toArray());
}

expect(100, insert($manager, $name, range(1, 100)));
$found = $manager->executeQuery($name, new Query(['_id' => 7]))->toArray();
expect(14, $found[0]->twice);
$changes = new BulkWrite();
$changes->update(['_id' => ['$lte' => 10]], ['$set' => ['old' => true]], ['multi' => true]);
$changes->delete(['_id' => ['$gt' => 90]]);
$changed = $manager->executeBulkWrite($name, $changes);
expect([10, 10], [$changed->getModifiedCount(), $changed->getDeletedCount()]);
expect(90, count_all($manager, $name));
$nearest = ['readPreference' => new ReadPreference('nearest', [['use' => 'reports'], []])];
expect(90, count_all($manager, $name, $nearest));

$session = $manager->startSession();
$session->startTransaction();
insert($manager, $name, ['order'], ['session' => $session]);
$session->commitTransaction();
$session->startTransaction();
insert($manager, $name, ['second thoughts'], ['session' => $session]);
$session->abortTransaction();
expect(91, count_all($manager, $name));
