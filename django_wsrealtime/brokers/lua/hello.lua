-- What a process asks when it connects, and now and then: the time, and who else is here.
--
-- ARGV (after those of log.lua): fingerprint of the list of servers, its life.
-- Answers the time, and the fingerprint that other processes left if it is another one, else ''.

local fingerprint, life = take(), take()
born()
local key = PREFIX .. 'hosts'
local known = redis.call('GET', key)
if known and known ~= fingerprint then
  return { integer(now()), known }
end
redis.call('SET', key, fingerprint, 'PX', life)
return { integer(now()), '' }
