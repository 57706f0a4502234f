// What becomes of the pool of node's driver where some connections can't be made: as
// `pymongo_pools.py`. For drivers 7 and 4.
//
//     NODE_PATH=target/node/node_modules node tests/drivers/node_pools.js HOST:PORT TASKS FINDS

const { MongoClient } = require('mongodb');
const { once } = require('node:events');

async function main() {
  const [address, tasks, finds] = process.argv.slice(2);
  const client = new MongoClient(`mongodb://${address}/?directConnection=true`, {
    serverSelectionTimeoutMS: 3000,
  });
  let cleared = 0;
  client.on('connectionPoolCleared', () => { cleared += 1; });
  const shop = client.db('shop').collection('orders');
  let errors = {};
  const find = async (times) => {
    let good = 0;
    for (let i = 0; i < times; i += 1) {
      try {
        await shop.find({ _id: 1 }).toArray();
        good += 1;
      } catch (error) {
        const kind = `${error.name}: ${error.message.replaceAll(address, 'HOST').replace(/\d+/g, 'N').slice(0, 100)}`;
        errors[kind] = (errors[kind] ?? 0) + 1;
      }
    }
    return good;
  };
  const atOnce = async (n, times) => {
    const good = await Promise.all(Array.from({ length: n }, () => find(times)));
    return good.reduce((sum, one) => sum + one, 0);
  };
  await client.connect();
  await atOnce(5, 4);
  errors = {};
  cleared = 0;
  console.log('ready');
  await once(process.stdin, 'data');
  const began = performance.now();
  const ok = await atOnce(Number(tasks), Number(finds));
  const seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ ok, cleared, seconds, errors }));
  await client.close();
  process.stdin.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
