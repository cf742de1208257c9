-- Takes over pending entries of one stream: those that a consumer was given before, or those that anybody has left lying.
-- An entry whose deliveries are used up goes to the dead letters instead.
--
-- The more often an entry was delivered, the fewer others come with it, and the last time it comes alone: so one that
-- kills its consumer is found out, and those around it live on.
--
-- With "most milliseconds idle" it is about a delivery that never arrived: the last one is made again, and not counted.
--
-- KEYS     stream, dead letters
-- ARGV     group, delete, consumer, whose ('' anybody's), least milliseconds idle, most milliseconds idle ('' any),
--          where to start, how many to look at, most deliveries (0: no end), then how many may come together at their
--          second, third, ... delivery
-- returns  {1 if that was the last of them, last id seen, how many went to the dead letters, {id, deliveries, fields} ..}
local consumer, whose, idle, start = ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local youngest = tonumber(ARGV[6])
local look, most = tonumber(ARGV[8]), tonumber(ARGV[9])
local sizes = {unpack(ARGV, 10)}

local range = {'XPENDING', KEYS[1], group, 'IDLE', idle, start, '+', look}
if whose ~= '' then
  range[#range + 1] = whose
end
local pending = redis.call(unpack(range))

local last = #pending < look and 1 or 0
local seen, buried, together = '', 0, look
local ids, deliveries = {}, {}
for _, row in ipairs(pending) do
  local id = row[1]
  -- A count may be below 1: XCLAIM can set any.
  local before = youngest and math.max(row[4], 1) - 1 or row[4]
  if not youngest or row[3] <= youngest then
    if most > 0 and before >= most then
      local reason = string.format('delivered %d times and never acknowledged, last by %s', before, row[2])
      buried = buried + bury(KEYS[1], KEYS[2], id, row[2], before, reason)
    else
      if before > 0 or not youngest then
        together = math.min(together, tonumber(sizes[math.min(math.max(before, 1), #sizes)]))
      end
      if #ids >= together then
        last = 0
        break
      end
      ids[#ids + 1] = id
      deliveries[id] = before + 1
    end
  end
  seen = id
end

local reply = {last, seen, buried}
local function claim(...)
  -- It leaves out, and forgets, what was deleted from the stream.
  for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], group, consumer, idle, ...)) do
    reply[#reply + 1] = {entry[1], deliveries[entry[1]], entry[2]}
  end
end

if youngest then
  for _, id in ipairs(ids) do
    claim(id, 'RETRYCOUNT', deliveries[id])
  end
else
  for first = 1, #ids, SLICE do
    claim(unpack(ids, first, math.min(first + SLICE - 1, #ids)))
  end
end
return reply
