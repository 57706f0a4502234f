// Asks as fast as it can, and tells every five seconds how much got through.
while (true) {
  const end = Date.now() + 5000;
  let served = 0;
  let refused = 0;
  while (Date.now() < end) {
    try {
      db.orders.findOne();
      served += 1;
    } catch (error) {
      if (error.code !== 462) throw error;
      refused += 1;
    }
  }
  print(`${served / 5} a second served, ${refused / 5} refused`);
}
