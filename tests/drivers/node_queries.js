// Programs that query well and badly: as `pymongo_queries.py`, with `loop`, `join`, and `burst`, which sends
// one query for each item, all at once.
//
//     NODE_PATH=target/node/node_modules node tests/drivers/node_queries.js HOST:PORT APP PROGRAM

const { MongoClient } = require('mongodb');

async function main() {
  const [address, app, program] = process.argv.slice(2);
  const client = new MongoClient(`mongodb://${address}/?directConnection=true`, { appName: app });
  const shop = client.db(`queries_node_${program}`);
  await shop.dropDatabase();
  const numbers = Array.from({ length: 100 }, (_, n) => n);
  await shop.collection('users').insertMany(numbers.map((n) => ({ _id: n, name: `user ${n}` })));
  await shop.collection('posts').insertMany(numbers.map((n) => ({ _id: n, tag: n % 5, user: n })));
  await shop.collection('config').insertOne({ _id: 'site' });
  const user = (post) => shop.collection('users').findOne({ _id: post.user }, { comment: 'users.js:30' });
  const request = async () => {
    const posts = await shop.collection('posts')
      .find({ tag: Math.floor(Math.random() * 5) }, { comment: 'posts.js:10' }).limit(20).toArray();
    if (program === 'loop') {
      for (const post of posts) await user(post);
    } else if (program === 'burst') {
      await Promise.all(posts.map(user));
    } else {
      const ids = posts.map((post) => post.user);
      await shop.collection('users').find({ _id: { $in: ids } }, { comment: 'users.js:20' }).toArray();
    }
    await shop.collection('config').findOne({ _id: 'site' }, { comment: 'site.js:1' });
  };
  for (let turn = 0; turn < 15; turn += 1) {
    await Promise.all([request(), request(), request(), request()]);
  }
  await client.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
