//! The limit as Redis keeps it: two numbers a key, changed by one script.

use redis::{Script, aio::MultiplexedConnection};
use std::time::Duration;

/// The generic cell rate algorithm. A key holds the moment at which its bucket will be full
/// again, and the moment at which it was written, in microseconds of the server's clock since
/// October 2025: a double has room for hundredths of them that way. The key expires once the bucket
/// is full.
///
/// A moment of writing that is in the future means that the clock went back, as where a replica
/// with a slower clock takes over: as much is left as was left then. A value without that moment
/// was written by other software, or by an older version: the bucket is empty at most.
///
/// `interval` is microseconds for one, `burst` how many at once. `owed` are taken in any case; of
/// what is left `least` to `most`, or none. A `least` beyond the burst is taken from a full bucket.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = (time[1] - 1760000000) * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local owed, least, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.call('GET', KEYS[1]) or ''
local kept, noted = string.match(held, '^(%S+) (%S+)$')
local full = tonumber(kept or held) or now
noted = tonumber(noted)
if noted then
    full = full - math.max(noted - now, 0)
elseif not (full <= now + burst * interval) then
    full = now + burst * interval
end
full = math.max(full, now) + owed * interval
local free = math.floor(burst - (full - now) / interval + 0.001)
local granted = 0
if free >= math.min(least, burst) and free > 0 then
    granted = math.max(least, math.min(most, free))
end
full = full + granted * interval
local wait = 0
if granted < most then
    local next = granted > 0 and 1 or math.min(least, burst)
    wait = math.ceil(math.max(full - now - (burst - next) * interval, 1))
end
if full > now then
    local note = string.format('%.3f %.0f', full, now)
    redis.call('SET', KEYS[1], note, 'PX', math.ceil((full - now) / 1000))
end
return {granted, wait}
";

/// A request for a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakeRequest {
    /// Taken already.
    pub(super) owed: u64,
    /// Fewer are of no use.
    pub(super) least: u64,
    /// More are not needed.
    pub(super) most: u64,
}

/// What the store gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) granted: u64,
    /// For how long the store has nothing left; `None` if it may have more.
    pub(super) wait: Option<Duration>,
}

/// The limit of each key of a policy.
pub(super) struct LimitScript {
    script: Script,
    /// In microseconds, as the script reads it.
    interval: String,
    burst: u64,
}

impl LimitScript {
    /// A limit of this rate a second and this burst.
    pub(super) fn new(rate: f64, burst: u64) -> Self {
        Self { script: Script::new(SCRIPT), interval: format!("{:.9}", 1e6 / rate), burst }
    }

    /// One round trip; two after the store forgot the script.
    pub(super) async fn take(
        &self,
        connection: &mut MultiplexedConnection,
        key: &str,
        wish: TakeRequest,
    ) -> redis::RedisResult<Grant> {
        let TakeRequest { owed, least, most } = wish;
        let mut call = self.script.key(key);
        call.arg(&self.interval).arg(self.burst).arg(owed).arg(least).arg(most);
        let (granted, wait): (u64, u64) = call.invoke_async(connection).await?;
        Ok(Grant { granted, wait: (wait > 0).then(|| Duration::from_micros(wait)) })
    }
}
