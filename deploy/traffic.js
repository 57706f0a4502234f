// What an application might do, for docker-compose.yml's profile `traffic`: mongosh runs it.

const roll = (n) => Math.floor(Math.random() * n);
const orders = db.getCollection("orders");
const products = db.getCollection("products");

orders.createIndex({ customer: 1 });
if (products.estimatedDocumentCount() === 0) {
  const list = Array.from({ length: 2000 }, (_, i) => ({ _id: i, name: `product ${i}`, price: i % 97 }));
  products.insertMany(list);
}

const actions = [
  () => products.findOne({ _id: roll(2000) }, {}, { comment: "catalog.show" }),
  () => products.find({ price: roll(97) }).comment("catalog.byPrice").limit(20).toArray(),
  () => orders.insertOne({ _id: roll(1000000), customer: roll(500), items: roll(9) }, { comment: "cart.checkout" }),
  () => orders.find({ customer: roll(500) }).comment("account.history").batchSize(5).toArray(),
  () => orders.updateOne({ customer: roll(500) }, { $inc: { items: 1 } }, { comment: "cart.add" }),
  () => orders.aggregate([{ $group: { _id: "$items", n: { $sum: 1 } } }], { comment: "report.daily" }).toArray(),
  // Most applications have something like this.
  () => products.insertOne({ _id: roll(2000) }, { comment: "import.products" }),
];

while (true) {
  try {
    actions[roll(actions.length)]();
  } catch (error) {
    if (error.code !== 11000) throw error;
  }
  sleep(5 + roll(20));
}
