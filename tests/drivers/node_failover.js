// Tasks of a node client that work without a pause while members fail, until stdin ends.
//
//     node tests/drivers/node_failover.js URI COLLECTION
//
// They do what `pymongo_failover.py` does as `all`, and print the same. For the drivers 7 and 4.
const { MongoClient } = require('mongodb');

const TASKS = 8;
// The key that ends the change stream, and for how long it is waited for.
const LAST = 'last';
const PATIENCE = 20_000;

async function main() {
  const [uri, name] = process.argv.slice(2);
  const client = await MongoClient.connect(uri, { serverSelectionTimeoutMS: 10_000 });
  const database = client.db('drivers');
  const shop = await database.createCollection(name);
  const counters = await database.createCollection(`${name}_counters`);
  await counters.insertMany([...Array(TASKS).keys()].map((_id) => ({ _id, n: 0 })));
  let over = false;
  const errors = {};
  const failed = (kind, error) => {
    const text = `${kind}: ${error.name}: ${error.message}`.slice(0, 300);
    errors[text] = (errors[text] ?? 0) + 1;
  };

  const count = async (task, session) => {
    await counters.updateOne({ _id: task }, { $inc: { n: 1 } }, { session });
    return { counted: 1 };
  };
  const operations = {
    find: async (_, key) => {
      await shop.findOne({ _id: key });
      return {};
    },
    insert: async (_, key) => {
      await shop.insertOne({ _id: key });
      return { keys: [key] };
    },
    count: async (task) => count(task),
    insertTwo: async (task, key) => {
      const keys = [`${key}-first`, `${key}-second`];
      await client.withSession((session) =>
        session.withTransaction(async () => {
          for (const _id of keys) await shop.insertOne({ _id }, { session });
          await count(task, session);
        }),
      );
      return { keys, counted: 1 };
    },
  };

  let begun = 0;
  let allBegun;
  const ready = new Promise((resolve) => {
    allBegun = resolve;
  });
  const all = { done: 0, keys: [LAST], counted: 0 };
  const work = async (task) => {
    const [kind, operation] = Object.entries(operations)[task % 4];
    for (let n = 0; !over; n += 1) {
      try {
        const { keys = [], counted = 0 } = await operation(task, `${task}-${n}`);
        all.keys.push(...keys);
        all.counted += counted;
      } catch (error) {
        failed(kind, error);
      }
      all.done += 1;
      if (n === 0 && ++begun === TASKS) allBegun();
    }
  };

  const events = [];
  const changes = shop.watch([], { maxAwaitTimeMS: 100 });
  const watch = async () => {
    let end = Infinity;
    try {
      while (events.at(-1) !== LAST && Date.now() < end) {
        const event = await changes.tryNext();
        if (event) events.push(event.documentKey._id);
        if (over && end === Infinity) end = Date.now() + PATIENCE;
      }
    } catch (error) {
      failed('watch', error);
    }
  };

  // The stream is open once it has been asked for the first time.
  await changes.tryNext();
  const watching = watch();
  const running = [...Array(TASKS).keys()].map(work);
  await ready;
  console.log('ready');
  for await (const _ of process.stdin);
  over = true;
  await Promise.all(running);
  await shop.insertOne({ _id: LAST });
  await watching;
  console.log(JSON.stringify({ ...all, errors, events }));
  await client.close();
}

main();
