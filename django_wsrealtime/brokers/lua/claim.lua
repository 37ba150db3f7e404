-- Sets a name to a value unless it is set; either way it lives on.
--
-- ARGV (after those of log.lua): name, sealed value, life. Answers the sealed value it is set to.

local key, sealed, ttl = PREFIX .. 'claim:' .. take(), take(), number()
local known = redis.call('GET', key)
if known then
  redis.call('PEXPIRE', key, ttl)
  return known
end
redis.call('SET', key, sealed, 'PX', ttl)
return sealed
