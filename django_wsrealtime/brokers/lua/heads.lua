-- Tells the ends of many logs, which live on as long as somebody asks.
--
-- ARGV (after those of log.lua): (topic, ttl) … Answers (epoch, offset) …, an empty epoch for a log
-- that does not exist or was drawn by another run of the server.

local answer = {}
while cursor < #ARGV do
  local meta, ttl = PREFIX .. 'log:' .. take(), number()
  local known = redis.call('HMGET', meta, 'e', 'o', 'r')
  if known[1] and known[3] == RUN_ID then
    redis.call('PEXPIRE', meta, ttl * METADATA_LIFE)
    answer[#answer + 1] = known[1]
    answer[#answer + 1] = tonumber(known[2])
  else
    answer[#answer + 1] = ''
    answer[#answer + 1] = 0
  end
end
return answer
