-- What every script on a topic's log begins with: the log itself.
--
-- ARGV: prefix of all keys and channels, run_id of this server, a fresh nonce, then the script's own.
--
-- A log is a hash and a list. The hash `log:<topic>` holds
--   e  epoch      o  offset of the last entry      f  offset of the first entry that is kept
--   t  time of the last entry      c  complete since: what was published from then on and is not
--   in the list was never published      r  run_id of the server that drew the epoch
-- The list `entries:<topic>` holds the kept entries, oldest first: 16 digits of time, sealed body.
-- It may vanish (its time is up, or it was evicted); the hash then knows that it is gone.
-- Times are microseconds of this server's clock, lives milliseconds.

local PREFIX, RUN_ID, NONCE = ARGV[1], ARGV[2], ARGV[3]
local METADATA_LIFE = 10
-- The clock of a server that takes over from another may be behind it by this much.
local SKEW = 1000000

local cursor = 3
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number()
  return tonumber(take())
end
local function pairs_of(count)
  local keys, values = {}, {}
  for i = 1, count do
    keys[i] = take()
    values[keys[i]] = take()
  end
  return keys, values
end

local function integer(value)
  return string.format('%.0f', value)
end

local present
local function now()
  if not present then
    local time = redis.call('TIME')
    present = time[1] * 1000000 + time[2]
  end
  return present
end

-- Since when a log that is not there has never been there: since this server, in this run, was
-- first seen without a key evicted.
local function born()
  local key = PREFIX .. 'born'
  local known = redis.call('HMGET', key, 'r', 't', 'v')
  local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') or '0'
  if known[1] == RUN_ID and known[3] == evicted then
    return tonumber(known[2])
  end
  local time = now()
  if known[1] and known[1] ~= RUN_ID then
    time = time + SKEW
  end
  redis.call('HSET', key, 'r', RUN_ID, 't', integer(time), 'v', evicted)
  return time
end

local logs, epochs = {}, 0

local function save(log, ttl)
  redis.call('HSET', log.meta, 'e', log.epoch, 'o', integer(log.offset), 'f', integer(log.first),
    't', integer(log.time), 'c', integer(log.complete), 'r', RUN_ID)
  redis.call('PEXPIRE', log.meta, ttl * METADATA_LIFE)
end

local function create(topic, complete, ttl)
  local log = {
    topic = topic,
    meta = PREFIX .. 'log:' .. topic,
    list = PREFIX .. 'entries:' .. topic,
    epoch = NONCE .. string.format('%x', epochs),
    offset = 0, first = 1, kept = 0, time = 0, complete = complete,
  }
  epochs = epochs + 1
  redis.call('DEL', log.meta, log.list)
  save(log, ttl)
  logs[topic] = log
  return log
end

local function open(topic, ttl)
  local log = logs[topic]
  if log then
    return log
  end
  local meta, list = PREFIX .. 'log:' .. topic, PREFIX .. 'entries:' .. topic
  local known = redis.call('HMGET', meta, 'e', 'o', 'f', 't', 'c', 'r')
  if not known[1] then
    return create(topic, math.max(born(), now() - ttl * 1000), ttl)
  end
  if known[6] ~= RUN_ID then
    -- Restored, or taken over: it may lack its last entries.
    return create(topic, math.max(born(), now()), ttl)
  end
  log = {
    topic = topic, meta = meta, list = list, epoch = known[1],
    offset = tonumber(known[2]), first = tonumber(known[3]),
    time = tonumber(known[4]), complete = tonumber(known[5]),
    kept = redis.call('LLEN', list),
  }
  if log.kept ~= log.offset - log.first + 1 then
    redis.call('DEL', list)
    log.kept, log.first = 0, log.offset + 1
    log.complete = math.max(log.complete, log.time + 1)
  end
  logs[topic] = log
  return log
end

local function time_of(entry)
  return tonumber(string.sub(entry, 1, 16))
end

local function trim(log, count)
  local last = redis.call('LINDEX', log.list, count - 1)
  redis.call('LTRIM', log.list, count, -1)
  log.first, log.kept = log.first + count, log.kept - count
  log.complete = math.max(log.complete, time_of(last) + 1)
end

-- Append an entry and ring. The hash is written before the bell rings: an offset that was heard of
-- is never given out twice.
local function write(log, size, ttl, sealed)
  log.offset = log.offset + 1
  log.time = math.max(log.time, now())
  local stamped = string.format('%016.0f', log.time) .. sealed
  redis.call('RPUSH', log.list, stamped)
  log.kept = log.kept + 1
  if log.kept > size then
    trim(log, log.kept - size)
  end
  local oldest = log.time - ttl * 1000
  while log.kept > 0 and time_of(redis.call('LINDEX', log.list, 0)) < oldest do
    trim(log, 1)
  end
  save(log, ttl)
  redis.call('PEXPIRE', log.list, ttl)
  redis.call('PUBLISH', PREFIX .. 'bell:' .. log.topic,
    'E' .. log.epoch .. ':' .. integer(log.offset) .. ':' .. stamped)
end
