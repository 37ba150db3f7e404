-- Tells who is present in a topic, and forgets whom nobody renewed.
--
-- ARGV (after those of log.lua): topic. Answers (joined ‖ sid, sealed attendance) …, in no order.

local key = PREFIX .. 'present:' .. take()
local all, answer = redis.call('HGETALL', key), {}
for i = 1, #all, 2 do
  local sid, value = all[i], all[i + 1]
  if tonumber(string.sub(value, 17, 32)) > now() then
    answer[#answer + 1] = string.sub(value, 1, 16) .. sid
    answer[#answer + 1] = string.sub(value, 33)
  else
    redis.call('HDEL', key, sid)
  end
end
return answer
