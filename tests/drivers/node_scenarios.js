// What an application does with node's driver, scenario by scenario, wherever the address leads.
//
//     NODE_PATH=target/node/node_modules node tests/drivers/node_scenarios.js HOST:PORT SCENARIO[,SCENARIO...] [USER:PASSWORD]
//
// Runs each scenario once for each way to write a connection string, and prints one JSON line for
// each: the application's name, every command that the driver says it sent, and every server that
// it got to know. Exits with 0 only if all of it went as it should. More options of the connection
// string, such as `tls=true`, are in the variable URI_OPTIONS. WAYS names other ways than the first three
// of OPTIONS, and SET_NAME another set than `secantus`. For versions 4 to 7 of the driver.

const assert = require('node:assert');
const { once } = require('node:events');
const [VERSION] = require('mongodb/package.json').version.split('.');
const { GridFSBucket, MongoClient, ObjectId, ReadPreference } = require('mongodb');

const MORE_OPTIONS = process.env.URI_OPTIONS || '';
const OPTIONS = {
  bare: '',
  set: `replicaSet=${process.env.SET_NAME || 'secantus'}`,
  direct: 'directConnection=true',
  balanced: 'loadBalanced=true',
};
const WAYS = (process.env.WAYS || 'bare,set,direct').split(',');
// The commands whose first value is the name of a collection.
const ON_COLLECTIONS = new Set([
  'aggregate', 'count', 'create', 'createIndexes', 'delete', 'distinct', 'drop', 'find',
  'findAndModify', 'insert', 'killCursors', 'listIndexes', 'update',
]);

const TAGS = [{ use: 'reports' }, {}];

async function readWith(shop, preferences) {
  await shop.insertMany(Array.from({ length: 30 }, (_, _id) => ({ _id })));
  for (const [mode, tags] of preferences) {
    const readPreference = new ReadPreference(mode, tags);
    assert.equal((await shop.find({}, { batchSize: 10, readPreference }).toArray()).length, 30);
    assert.deepEqual(await shop.aggregate([{ $count: 'n' }], { readPreference }).toArray(), [{ n: 30 }]);
  }
}

const SCENARIOS = {
  // Each kind of write and read, and an error that is the client's own fault.
  async crud(client, shop) {
    await shop.insertOne({ _id: 1, total: 10 }, { comment: 'checkout.place' });
    await shop.insertMany(Array.from({ length: 49 }, (_, i) => ({ _id: i + 2, total: (i + 2) * 10 })));
    assert.equal(await shop.countDocuments({}), 50);
    assert.equal((await shop.findOne({ _id: 7 }, { comment: 'checkout.total' })).total, 70);
    assert.equal((await shop.updateMany({ _id: { $lt: 11 } }, { $set: { old: true } })).modifiedCount, 10);
    const before = await shop.findOneAndUpdate({ _id: 1 }, { $inc: { total: 1 } });
    // Version 4 has it in a reply.
    assert.equal((before.value ?? before).total, 10);
    assert.deepEqual(await shop.distinct('old'), [true]);
    assert.deepEqual(await shop.aggregate([{ $match: { old: true } }, { $count: 'n' }]).toArray(), [{ n: 10 }]);
    assert.equal((await shop.deleteMany({ _id: { $gt: 40 } })).deletedCount, 10);
    await assert.rejects(shop.insertOne({ _id: 1 }), { code: 11000 });
    await client.db('admin').command({ ping: 1 });
  },

  // A cursor over many batches, and one that is given up halfway.
  async cursors(client, shop) {
    const text = 'x'.repeat(100);
    await shop.insertMany(Array.from({ length: 500 }, (_, _id) => ({ _id, text })));
    const rows = await shop.find({}, { batchSize: 50, comment: 'report.rows' }).toArray();
    assert.equal(rows.length, 500);
    const abandoned = shop.find({}, { batchSize: 10 });
    await abandoned.next();
    await abandoned.close();
  },

  // One that commits, and one that doesn't.
  async transactions(client, shop) {
    await shop.insertOne({ _id: 'stock', left: 5 });
    await client.withSession((session) => session.withTransaction(async () => {
      await shop.insertOne({ _id: 'order' }, { session });
      await shop.updateOne({ _id: 'stock' }, { $inc: { left: -1 } }, { session });
    }));
    await client.withSession(async (session) => {
      session.startTransaction();
      await shop.insertOne({ _id: 'second thoughts' }, { session });
      await session.abortTransaction();
    });
    assert.equal((await shop.findOne({ _id: 'stock' })).left, 4);
    assert.equal(await shop.countDocuments({}), 2);
  },

  // A change stream that sees what another connection writes.
  async changes(client) {
    // The server may begin before a drop that was just made, which ends the stream.
    const shop = client.db('drivers').collection(`changes_${new ObjectId()}`);
    await shop.insertOne({ _id: 0 });
    const later = [{ $match: { 'documentKey._id': { $gt: 0 } } }];
    const stream = shop.watch(later, { maxAwaitTimeMS: 500 });
    const first = stream.next();
    await new Promise((resolve) => stream.cursor.once('init', resolve));
    await shop.insertMany([{ _id: 1 }, { _id: 2 }]);
    assert.equal((await first).documentKey._id, 1);
    assert.equal((await stream.next()).documentKey._id, 2);
    await stream.close();
  },

  // Writes that the driver must try again: a connection cut, and a server that steps down.
  async retries(client, shop) {
    await shop.insertOne({ _id: 0 });
    const { appName } = client.options;
    const arm = (data) => client.db('admin').command({
      configureFailPoint: 'failCommand', mode: { times: 1 }, data: { ...data, appName },
    });
    await arm({ failCommands: ['insert'], closeConnection: true });
    await shop.insertOne({ _id: 1 });
    await arm({ failCommands: ['update'], errorCode: 91, errorLabels: ['RetryableWriteError'] });
    assert.equal((await shop.updateOne({ _id: 1 }, { $set: { done: true } })).modifiedCount, 1);
    assert.equal(await shop.countDocuments({ done: true }), 1);
  },

  // Writes that no reply follows, with reads behind them on the one connection.
  async unacknowledged(client, shop) {
    for (let _id = 0; _id < 20; _id += 1) {
      await shop.insertOne({ _id }, { writeConcern: { w: 0 } });
      await client.db('admin').command({ ping: 1 });
    }
    assert.equal(await shop.countDocuments({}), 20);
  },

  // Many finds at once.
  async many(client, shop) {
    await shop.insertMany(Array.from({ length: 200 }, (_, _id) => ({ _id, n: _id * 2 })));
    const found = await Promise.all(Array.from({ length: 200 }, (_, _id) => shop.findOne({ _id })));
    assert.deepEqual(found.map((it) => it.n), Array.from({ length: 200 }, (_, _id) => _id * 2));
  },

  // A file of several chunks in GridFS, which makes indexes first.
  async files(client, shop) {
    const bucket = new GridFSBucket(client.db('drivers'), { bucketName: shop.collectionName, chunkSizeBytes: 20_000 });
    const content = Buffer.alloc(102_400, 'image');
    const upload = bucket.openUploadStream('image');
    const uploaded = once(upload, 'finish');
    upload.end(content);
    await uploaded;
    const chunks = await bucket.openDownloadStream(upload.id).toArray();
    assert.deepEqual(Buffer.concat(chunks), content);
    await bucket.delete(upload.id);
    assert.deepEqual(await bucket.find().toArray(), []);
  },

  // Reads that may be served by other members than the primary.
  elsewhere: (client, shop) => readWith(shop, [['secondaryPreferred'], ['nearest', TAGS]]),

  // Reads that the primary may not serve.
  secondary: (client, shop) => readWith(shop, [['secondary'], ['secondary', TAGS]]),

  // What a user may do once logged in, and a password that is wrong.
  async login(client, shop, address) {
    await shop.insertOne({ _id: 1 }, { comment: 'account.open' });
    assert.deepEqual(await shop.findOne({ _id: 1 }), { _id: 1 });
    const wrong = new MongoClient(`mongodb://alice:hunter-three-wrong@${address}/?authSource=admin&${MORE_OPTIONS}`);
    await assert.rejects(wrong.db('admin').command({ listDatabases: 1 }), { code: 18 });
    await wrong.close();
  },
};

// [name, database.collection], as the access log should have it.
function sent({ commandName, databaseName, command }) {
  const target = command[commandName === 'getMore' ? 'collection' : commandName];
  const named = commandName === 'getMore' || ON_COLLECTIONS.has(commandName);
  const resource = named && typeof target === 'string' ? `${databaseName}.${target}` : databaseName;
  return [commandName, resource];
}

async function run(address, scenario, way, credentials) {
  const app = `node${VERSION}-${scenario}-${way}`;
  const options = [OPTIONS[way], credentials && 'authSource=admin', MORE_OPTIONS].filter(Boolean).join('&');
  const loginAt = credentials ? `${credentials}@` : '';
  const client = new MongoClient(`mongodb://${loginAt}${address}/?${options}`, {
    appName: app,
    monitorCommands: true,
    serverSelectionTimeoutMS: 20_000,
    // How long the driver believes a server gone that says it is going down.
    heartbeatFrequencyMS: 500,
    // With one connection, what follows an unacknowledged write follows it on the wire.
    maxPoolSize: scenario === 'unacknowledged' ? 1 : 20,
  });
  const commands = [];
  const servers = new Set();
  client.on('commandStarted', (event) => commands.push(sent(event)));
  client.on('serverOpening', (event) => servers.add(event.address));
  client.on('serverDescriptionChanged', (event) => servers.add(event.address));
  try {
    const shop = client.db('drivers').collection(app.replaceAll('-', '_'));
    await shop.drop();
    await SCENARIOS[scenario](client, shop, address);
  } finally {
    await client.close();
  }
  console.log(JSON.stringify({ app, sent: commands, servers: [...servers].sort() }));
}

async function main() {
  const [address, scenarios, credentials] = process.argv.slice(2);
  for (const scenario of scenarios.split(',')) {
    for (const way of WAYS) {
      await run(address, scenario, way, credentials);
    }
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
