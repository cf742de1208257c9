-- Admit: throttles, quotas and a stream decided together, then all of it written or nothing.
--
-- KEYS     a throttle each, a quota each, the stream if there is one, the dedupe key if there is one
-- ARGV     cost, or one for each throttle and quota with a comma behind it; number of throttles, of quotas, of streams
--          (0 or 1), milliseconds that the dedupe key lives (0: there is none), receipt;
--          per throttle: limit, period in microseconds, burst;
--          per quota: limit (-1: count only), its window's start and end in milliseconds, mode (0: strict, 1: the one
--          that crosses the limit is accepted, 2: check only, 3: shadow, which counts and never refuses), milliseconds
--          that the counter is kept after the window;
--          for the stream: the most entries (0: no bound), 1 to trim when it is full or 0 to refuse, the number of
--          strings that follow, and these: field, value, field, value, ...
-- returns  {verdict, rule, now in microseconds, entry's id, receipt,
--           per throttle: units left, microseconds until the same cost would be allowed (0: now, -1: never),
--           microseconds until nothing is owed; per quota: units used; for the stream: its length}
--
-- The verdict is 0 (refused), 1 (admitted), 2 (a duplicate: the first one's id and receipt) or 3 (the rule's window is
-- not the one of the server's clock; the reply ends after the receipt). Of the rules that refuse, counted from 1, the
-- one named is that with the longest wait. The states are those after the charge.
--
-- A cost of 0 asks whether a unit would be let through; nothing is charged for it. Among several costs, a rule with 0 is
-- charged nothing and refuses nothing.
--
-- Every key is read before the first write, so one of a wrong type is an error that leaves no half admission; XADD goes
-- first because it is the one write that can fail by itself. What is refused writes nothing. The one exception is the
-- state of a throttle which says it was charged over a second in the future and refuses: it is dated back to now, owing
-- the same. Otherwise a clock that was set back would keep its keys shut for as long.
--
-- Numbers: a cost is at most 2^53 and multiplied only where it is at most `burst`, so `cost * period` is at most
-- `full`, which is at most 2^52. A quota's counter stays below 2^53. A window's milliseconds times 1000 do until the
-- year 2255. Numbers are handed to redis.call as they are: the server prints whole ones in full, where Lua would round
-- them to 14 digits.
local KEYS, ARGV = KEYS, ARGV
local function units(text)
  local number = tonumber(text)
  if not (number and number >= 0 and number <= 9007199254740992 and number % 1 == 0) then
    error(redis.error_reply('ERR the cost is ' .. text .. ': give a whole number from 0 to 2^53'))
  end
  return number
end

local throttles, streams, dedupe = ARGV[2] + 0, ARGV[4] + 0, ARGV[5] + 0
local counters = throttles + ARGV[3]
-- With a cost for each, `cost` is the largest.
local cost, costs = 0, nil
if string.find(ARGV[1], ',', 1, true) then
  costs = {}
  for text in string.gmatch(ARGV[1], '([^,]*),') do
    local number = units(text)
    costs[#costs + 1] = number
    if number > cost then
      cost = number
    end
  end
  if #costs ~= counters then
    return redis.error_reply('ERR there are ' .. #costs .. ' costs for ' .. counters .. ' rules')
  end
else
  cost = units(ARGV[1])
end
local least = cost > 0 and cost or 1
-- The nils make room for the states of a rule or two.
local reply = {1, 0, nil, '', ARGV[6], nil, nil, nil, nil, nil}

local duplicate = false
if dedupe > 0 then
  local known = redis.call('GET', KEYS[counters + streams + 1])
  if known then
    local id, receipt = string.match(known, '^(%S*) (.*)$')
    if not id then
      return redis.error_reply('FOREIGN the key ' .. KEYS[counters + streams + 1] .. ' holds something else than an id')
    end
    duplicate = true
    reply[1], reply[4], reply[5] = 2, id, receipt
  end
end

-- Decide. `longest` is the longest wait of a rule that refuses: -1 while none does. Until the end the slot for what a
-- throttle has left stays empty, and the one for its reset holds its debt.
local longest = -1
local from_future, overflowing
local arg, slot = 6, 5
for i = 1, throttles do
  local limit, period, burst = ARGV[arg + 1] + 0, ARGV[arg + 2] + 0, ARGV[arg + 3] + 0
  local full = burst * period
  local debt, future = owed(KEYS[i], limit, period, full)
  local wait, asked = 0, costs and costs[i] or least
  if asked > burst then
    wait = -1
    if longest < math.huge then
      longest, reply[2] = math.huge, i
    end
  else
    local short = asked * period - (full - debt)
    if short > 0 then
      wait = ceil(short / limit)
      if wait > longest then
        longest, reply[2] = wait, i
      end
      if future then
        from_future = from_future or {}
        from_future[i] = true
      end
    end
  end
  reply[slot + 1], reply[slot + 2], reply[slot + 3] = 0, wait, debt
  arg, slot = arg + 3, slot + 3
end
reply[3] = now

for i = throttles + 1, counters do
  local limit, mode = ARGV[arg + 1] + 0, ARGV[arg + 4]
  local ends = ARGV[arg + 3] * 1000
  if not duplicate and (now < ARGV[arg + 2] * 1000 or now >= ends) then
    return {3, i, now, '', ''}
  end
  local used = redis.call('GET', KEYS[i]) or 0
  used = tonumber(used)
  if not used then
    return redis.error_reply('FOREIGN the key ' .. KEYS[i] .. ' holds something else than a counter')
  end
  local refuses, asked = false, costs and costs[i] or least
  if limit >= 0 and mode ~= '3' and asked > 0 then
    if mode == '1' then
      refuses = used >= limit
    else
      refuses = asked > limit - used
    end
  end
  if refuses then
    local wait = ends - now
    if limit == 0 or (asked > limit and mode ~= '1') then
      wait = math.huge
    end
    if wait > longest then
      longest, reply[2] = wait, i
    end
  elseif mode ~= '2' and (costs and asked or cost) > 9007199254740991 - used and not duplicate then
    overflowing = overflowing or i
  end
  slot = slot + 1
  reply[slot] = used
  arg = arg + 5
end

local bound, trims
if streams == 1 then
  local depth = redis.call('XLEN', KEYS[counters + 1])
  bound, trims = ARGV[arg + 1] + 0, ARGV[arg + 2] == '1'
  if bound > 0 and not trims and depth >= bound and longest < 0 then
    longest, reply[2] = 0, counters + 1
  end
  slot = slot + 1
  reply[slot] = depth
end

if overflowing and longest < 0 then
  return redis.error_reply('ERR the counter ' .. KEYS[overflowing] .. ' would pass 2^53')
end

-- Write.
local admitted = false
if duplicate then
  reply[2] = 0
elseif longest >= 0 then
  reply[1], reply[5] = 0, ''
else
  admitted = true
  if streams == 1 then
    local key, first, last = KEYS[counters + 1], arg + 4, arg + 3 + ARGV[arg + 3]
    if trims and bound > 0 then
      reply[4] = redis.call('XADD', key, 'MAXLEN', '~', bound, '*', unpack(ARGV, first, last))
      reply[slot] = redis.call('XLEN', key)
    else
      reply[4] = redis.call('XADD', key, '*', unpack(ARGV, first, last))
      reply[slot] = reply[slot] + 1
    end
  end
  if dedupe > 0 and (cost > 0 or streams == 1) then
    redis.call('SET', KEYS[counters + streams + 1], reply[4] .. ' ' .. ARGV[6], 'PX', dedupe)
  end
end

arg, slot = 6, 5
for i = 1, throttles do
  local limit, period = ARGV[arg + 1] + 0, ARGV[arg + 2] + 0
  local charged = admitted and (costs and costs[i] or cost) or 0
  local debt = reply[slot + 3] + charged * period
  local reset = ceil(debt / limit)
  if charged > 0 or (from_future and from_future[i] and not duplicate) then
    -- NOTE: the key expires by a clock that was read a little before this one and counts milliseconds: with two more no
    -- debt is forgotten before it ends.
    redis.call('SET', KEYS[i], struct.pack('>ddd', now, debt, period), 'PX', floor((reset + now - clock) / 1000) + 2)
  end
  reply[slot + 1], reply[slot + 3] = floor((ARGV[arg + 3] * period - debt) / period), reset
  arg, slot = arg + 3, slot + 3
end

if admitted and cost > 0 then
  for i = throttles + 1, counters do
    local charged = costs and costs[i] or cost
    slot = slot + 1
    if charged > 0 and ARGV[arg + 4] ~= '2' then
      local used = reply[slot] + charged
      redis.call('SET', KEYS[i], used, 'PX', ARGV[arg + 3] + ARGV[arg + 5] - floor(clock / 1000))
      reply[slot] = used
    end
    arg = arg + 5
  end
end
return reply
