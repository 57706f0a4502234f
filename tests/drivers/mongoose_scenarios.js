// What an application does with Mongoose: `mongoose_scenarios.js URI COLLECTION`.

const assert = require('node:assert');
const mongoose = require('mongoose');

async function main() {
  const [uri, collection] = process.argv.slice(2);
  await mongoose.connect(uri, { dbName: 'drivers' });
  const schema = new mongoose.Schema({ _id: Number, text: { type: String, index: true } }, { collection });
  const Order = mongoose.model('Order', schema);
  await Order.init();
  await Order.insertMany(Array.from({ length: 100 }, (_, _id) => ({ _id, text: `order ${_id}` })));
  assert.equal((await Order.findOne({ text: 'order 7' }))._id, 7);
  const order = await Order.findById(8);
  order.text = 'changed';
  await order.save();
  assert.equal(await Order.countDocuments({ text: 'changed' }), 1);
  let count = 0;
  for await (const _ of Order.find().cursor({ batchSize: 10 })) count += 1;
  assert.equal(count, 100);
  assert.equal((await Order.find().read('nearest', [{ use: 'reports' }, {}])).length, 100);

  await mongoose.connection.transaction((session) => Order.create([{ _id: 200 }], { session }));
  const undone = mongoose.connection.transaction(async (session) => {
    await Order.create([{ _id: 201 }], { session });
    throw new Error('second thoughts');
  });
  await assert.rejects(undone, /second thoughts/);
  assert.equal(await Order.countDocuments({ _id: { $gte: 200 } }), 1);
  await mongoose.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
