-- Draws a ticket: higher than every one before, and after the loss of all data still higher, for it
-- is the time wherever the last one is not ahead of that.
--
-- ARGV (after those of log.lua): none. Answers the ticket.

local key = PREFIX .. 'ticket'
local ticket = math.max(now(), (tonumber(redis.call('GET', key) or nil) or 0) + 1)
redis.call('SET', key, integer(ticket))
return integer(ticket)
