-- Carries out commands in order; everything that happens to a topic or a row happens here.
--
-- ARGV (after those of log.lua): commands, each a letter and its arguments. Answers one array per
-- command, beginning with a letter:
--   A  appended     D  duplicate     X  refused     K  done     N  needs seals; nothing after it ran

local commands = {}

-- Publish: topic, size, ttl, idempotency key or '', sealed body -> epoch, offset
function commands.P()
  local topic, size, ttl, key, sealed = take(), number(), number(), take(), take()
  local log = open(topic, ttl)
  if key ~= '' then
    key = PREFIX .. 'key:' .. key
    local epoch, offset = string.match(redis.call('GET', key) or '', '^(.*):(%d+)$')
    if epoch == log.epoch then
      return { 'D', epoch, tonumber(offset) }
    end
  end
  write(log, size, ttl, sealed)
  if key ~= '' then
    redis.call('SET', key, log.epoch .. ':' .. integer(log.offset), 'PX', ttl)
  end
  return { 'A', log.epoch, log.offset }
end

-- Whether a row that was read with `ticket` may be older than a topic's last reset.
local function below_floor(topic, ticket)
  local floor = tonumber(redis.call('GET', PREFIX .. 'floor:' .. topic) or nil)
  return floor and (ticket == '' or tonumber(ticket) < floor)
end

-- Reset: topic, ttl, ticket or '', sealed reason -> epoch, offset
function commands.R()
  local topic, ttl, ticket, sealed = take(), number(), take(), take()
  if ticket ~= '' then
    redis.call('SET', PREFIX .. 'floor:' .. topic, ticket, 'PX', ttl * METADATA_LIFE)
  end
  local log = create(topic, now() + 1, ttl)
  redis.call('PUBLISH', PREFIX .. 'bell:' .. topic, 'R' .. sealed)
  return { 'A', log.epoch, 0 }
end

-- A row's record: its ticket, then the topics its last events went to.
local function recall(row)
  local packed = redis.call('GET', PREFIX .. 'row:' .. row)
  if not packed then
    return nil, {}
  end
  local topics = cmsgpack.unpack(packed)
  return table.remove(topics, 1), topics
end

local function remember(row, ttl, ticket, topics)
  local packed = cmsgpack.pack({ ticket, unpack(topics) })
  redis.call('SET', PREFIX .. 'row:' .. row, packed, 'PX', ttl * METADATA_LIFE)
end

-- `ticket` is '' for a row that its transaction created.
local function refused(known, ticket)
  return known and (ticket == '' or known > tonumber(ticket))
end

-- RowChange: row, ticket, size, ttl, n, n × (topic, sealed), m, m × (left topic, sealed removal),
-- k, k × (topic, sealed removal to be used if the row is remembered there)
--   -> (topic, epoch, offset) …; or N and the remembered topics whose removal was not sealed
function commands.W()
  local row, ticket, size, ttl = take(), take(), number(), number()
  local topics, bodies = pairs_of(number())
  local left, removals = pairs_of(number())
  local _, spare = pairs_of(number())
  local known, remembered = recall(row)
  if refused(known, ticket) then
    return { 'X' }
  end
  local needed = { 'N' }
  for _, topic in ipairs(remembered) do
    if not bodies[topic] and not removals[topic] then
      if spare[topic] then
        left[#left + 1] = topic
        removals[topic] = spare[topic]
      else
        needed[#needed + 1] = topic
      end
    end
  end
  if #needed > 1 then
    return needed
  end
  for _, concerned in ipairs({ left, topics }) do
    for _, topic in ipairs(concerned) do
      if below_floor(topic, ticket) then
        return { 'X' }
      end
    end
  end
  table.sort(left)
  local answer = { 'A' }
  local function add(topic, sealed)
    local log = open(topic, ttl)
    write(log, size, ttl, sealed)
    local count = #answer
    answer[count + 1], answer[count + 2], answer[count + 3] = topic, log.epoch, log.offset
  end
  for _, topic in ipairs(left) do
    add(topic, removals[topic])
  end
  for _, topic in ipairs(topics) do
    add(topic, bodies[topic])
  end
  remember(row, ttl, tonumber(ticket) or 0, topics)
  return answer
end

-- The same in three steps, for rows whose topics live on several servers (see redis_append.py).

-- Claim a row: row, ticket, ttl, n, topics … -> K and the topics remembered before, or X
function commands.C()
  local row, ticket, ttl = take(), take(), number()
  local known, remembered = recall(row)
  local all, seen = {}, {}
  for _ = 1, number() do
    all[#all + 1] = take()
    seen[all[#all]] = true
  end
  if refused(known, ticket) then
    return { 'X' }
  end
  for _, topic in ipairs(remembered) do
    if not seen[topic] then
      all[#all + 1] = topic
    end
  end
  remember(row, ttl, tonumber(ticket) or 0, all)
  return { 'K', unpack(remembered) }
end

-- Append a row's event to one topic: topic, row in topic, ticket, size, ttl, sealed -> epoch, offset;
-- or F if the topic was reset with a higher ticket
function commands.T()
  local topic, place, ticket, size, ttl, sealed = take(), take(), take(), number(), number(), take()
  local key = PREFIX .. 'place:' .. place
  if refused(tonumber(redis.call('GET', key) or nil), ticket) then
    return { 'X' }
  end
  if below_floor(topic, ticket) then
    return { 'F' }
  end
  local log = open(topic, ttl)
  write(log, size, ttl, sealed)
  redis.call('SET', key, integer(tonumber(ticket) or 0), 'PX', ttl * METADATA_LIFE)
  return { 'A', log.epoch, log.offset }
end

-- Settle a row after every topic was told: row, ticket, ttl, n, topics … -> K
function commands.S()
  local row, ticket, ttl = take(), take(), number()
  local topics = {}
  for i = 1, number() do
    topics[i] = take()
  end
  if recall(row) == (tonumber(ticket) or 0) then
    remember(row, ttl, tonumber(ticket) or 0, topics)
  end
  return { 'K' }
end

local answers = {}
while cursor < #ARGV do
  local answer = commands[take()]()
  answers[#answers + 1] = answer
  if answer[1] == 'N' then
    break
  end
end
return answers
