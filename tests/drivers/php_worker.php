<?php
// A process that writes and reads a little, and keeps its connection until stdin ends, as a worker of
// PHP-FPM does between requests: `php_worker.php URI COLLECTION`.

use MongoDB\BSON\ObjectId;
use MongoDB\Driver\{BulkWrite, Manager, Query};

[, $uri, $collection] = $argv;
$manager = new Manager($uri);
for ($n = 0; $n < 6; $n++) {
    $id = new ObjectId();
    $write = new BulkWrite();
    $write->insert(['_id' => $id]);
    $manager->executeBulkWrite("drivers.$collection", $write);
    $found = $manager->executeQuery("drivers.$collection", new Query(['_id' => $id]))->toArray();
    if (count($found) !== 1) {
        throw new Exception('a document is not found');
    }
}
echo "done\n";
stream_get_contents(STDIN);
