-- Enters connections into a topic's presence, or renews them.
--
-- The hash `present:<topic>` holds per sid: 16 digits of the time it joined, 16 of the time it is
-- gone, sealed attendance. ARGV (after those of log.lua): topic, life, (sid, sealed) …

local key, ttl = PREFIX .. 'present:' .. take(), number()
local stamp = '%016.0f'
local gone = string.format(stamp, now() + ttl * 1000)
while cursor < #ARGV do
  local sid, sealed = take(), take()
  local known = redis.call('HGET', key, sid)
  local joined = string.format(stamp, now())
  if known and tonumber(string.sub(known, 17, 32)) > now() then
    joined = string.sub(known, 1, 16)
  end
  redis.call('HSET', key, sid, joined .. gone .. sealed)
end
if redis.call('PTTL', key) < ttl then
  redis.call('PEXPIRE', key, ttl)
end
return 1
