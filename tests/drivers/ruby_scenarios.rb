# What a program does with the Ruby driver of 2018: `ruby_scenarios.rb URI COLLECTION`. It knows no
# transactions.

require 'mongo'

# Ruby 3 has it no longer, and the driver calls it.
def URI.decode(text) = URI.decode_www_form_component(text)

def expect(expected, seen)
  raise "#{seen.inspect}, not #{expected.inspect}" unless expected == seen
end

uri, name = ARGV
Mongo::Logger.logger.level = Logger::FATAL
client = Mongo::Client.new(uri, database: 'drivers')
shop = client[name]
expect 100, shop.insert_many((1..100).map { |n| { _id: n, twice: n * 2 } }).inserted_count
expect 14, shop.find(_id: 7).first['twice']
expect 10, shop.update_many({ _id: { '$lte' => 10 } }, '$set' => { old: true }).modified_count
expect 10, shop.delete_many(_id: { '$gt' => 90 }).deleted_count
expect 90, shop.find.batch_size(10).to_a.size
expect [{ '_id' => nil, 'n' => 90 }], shop.aggregate([{ '$group' => { _id: nil, n: { '$sum' => 1 } } }]).to_a
finds = Array.new(32) { |n| Thread.new { shop.find(_id: n + 1).first['twice'] } }
expect (1..32).map { |n| n * 2 }, finds.map(&:value)
client.close
