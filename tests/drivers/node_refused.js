// What node's driver makes of refusals: as `pymongo_refused.py`.
//
//     NODE_PATH=target/node/node_modules node tests/drivers/node_refused.js HOST:PORT APP OPERATION...

const { MongoClient } = require('mongodb');
const { once } = require('node:events');

// What the proxy never refuses here, and the driver sends on its own.
const OWN = new Set(['hello', 'ismaster', 'endSessions']);
const EXPLAINED = { update: 'shop', updates: [{ q: {}, u: { $set: { a: 1 } } }] };

const OPERATIONS = {
  find: (client, shop) => shop.find({ _id: 1 }).toArray(),
  count: (client, shop) => shop.countDocuments({}),
  distinct: (client, shop) => shop.distinct('a'),
  aggregate: (client, shop) => shop.aggregate([{ $match: { _id: 1 } }]).toArray(),
  list: (client) => client.db('refused').listCollections().toArray(),
  ping: (client) => client.db('admin').command({ ping: 1 }),
  insert: (client, shop) => shop.insertOne({}),
  insert_many: (client, shop) => shop.insertMany(Array.from({ length: 200 }, () => ({ t: 'x'.repeat(1000) }))),
  unacknowledged: (client, shop) => shop.insertOne({ _id: 'unacknowledged' }, { writeConcern: { w: 0 } }),
  update: (client, shop) => shop.updateMany({}, { $set: { a: 2 } }),
  delete: (client, shop) => shop.deleteMany({}),
  find_and_modify: (client, shop) => shop.findOneAndUpdate({}, { $set: { a: 2 } }),
  bulk: (client, shop) => shop.bulkWrite([{ insertOne: { document: {} } }]),
  client_bulk: (client) => client.bulkWrite([{ name: 'insertOne', namespace: 'refused.shop', document: {} }]),
  out: (client, shop) => shop.aggregate([{ $match: {} }, { $out: 'copy' }]).toArray(),
  merge: (client, shop) => shop.aggregate([{ $match: {} }, { $merge: 'copy' }]).toArray(),
  map_reduce: (client) => client.db('refused').command({ mapReduce: 'shop', map: '', reduce: '', out: 'copy' }),
  apply_ops: (client) => client.db('admin').command({ applyOps: [] }),
  explain: (client) => client.db('refused').command({ explain: EXPLAINED }),
  index: (client, shop) => shop.createIndex({ a: 1 }),
  create: (client) => client.db('refused').createCollection('another'),
  rename: (client, shop) => shop.rename('another'),
  drop: (client, shop) => shop.drop(),
  drop_database: (client) => client.db('refused').dropDatabase(),
  transaction: (client, shop) => client.withSession(async (session) => {
    session.startTransaction();
    await shop.insertOne({ _id: 'in a transaction' }, { session });
  }),
};

async function main() {
  const [address, app, ...operations] = process.argv.slice(2);
  const client = new MongoClient(`mongodb://${address}/?directConnection=true`, {
    appName: app, monitorCommands: true, heartbeatFrequencyMS: 500,
  });
  const seen = { sent: 0, cleared: 0, heartbeats_failed: 0, closed: 0 };
  client.on('commandStarted', ({ commandName }) => { seen.sent += OWN.has(commandName) ? 0 : 1; });
  client.on('connectionPoolCleared', () => { seen.cleared += 1; });
  client.on('serverHeartbeatFailed', () => { seen.heartbeats_failed += 1; });
  client.on('connectionClosed', () => { seen.closed += 1; });
  const shop = client.db('refused').collection('shop');
  await client.db('admin').command({ ping: 1 });
  const done = [];
  for (const name of operations) {
    const before = seen.sent;
    let code = null;
    let labels = [];
    try {
      await OPERATIONS[name](client, shop);
    } catch (thrown) {
      const error = thrown.cause ?? thrown;
      code = thrown.code ?? error.code ?? String(thrown);
      labels = ['SystemOverloadedError', 'RetryableError', 'RetryableWriteError']
        .filter((label) => error.hasErrorLabel?.(label));
    }
    done.push({ code, labels, sent: seen.sent - before });
  }
  await once(client, 'serverHeartbeatSucceeded');
  const { cleared, heartbeats_failed, closed } = seen;
  console.log(JSON.stringify({ done, cleared, heartbeats_failed, closed }));
  await client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
