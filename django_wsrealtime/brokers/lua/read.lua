-- Reads a log from a position or a time.
--
-- ARGV (after those of log.lua): topic, size, ttl, then nothing | 'P', epoch, offset | 'S', time.
-- Answers epoch, offset, why it is not recovered or '', offset of the first entry, entries.

local topic, size, ttl, kind = take(), number(), number(), take()
local log = open(topic, ttl)
redis.call('PEXPIRE', log.meta, ttl * METADATA_LIFE)

local function time_at(index)
  return time_of(redis.call('LINDEX', log.list, index))
end

-- The lowest index from `low` on whose entry is not older than `time`: times never run backwards.
local function search(low, time)
  local high = log.kept
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time_at(middle) < time then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local reason, from = '', log.kept
if kind then
  local start = search(math.max(0, log.kept - size), now() - ttl * 1000)
  local complete = log.complete
  if start > 0 then
    complete = math.max(complete, time_at(start - 1) + 1)
  end
  if kind == 'S' then
    local since = number()
    if since < complete then
      reason = 'trimmed'
    else
      from = search(start, since)
    end
  elseif kind == 'P' then
    local epoch, offset = take(), number()
    if epoch ~= log.epoch then
      reason = 'epoch'
    elseif offset > log.offset then
      reason = 'lost'
    elseif offset + 1 < log.first + start then
      reason = 'trimmed'
    else
      from = offset + 1 - log.first
    end
  else
    from = start
  end
end

local entries = {}
if from < log.kept then
  entries = redis.call('LRANGE', log.list, from, -1)
end
return { log.epoch, log.offset, reason, log.first + from, entries }
