-- What the consumer's scripts share: to be done with entries, and to move one to the dead letters.
--
-- Scripts that begin with this take as arguments the group, then whether entries are deleted ('1' or '0').
local group = ARGV[1]
local delete = ARGV[2] == '1'

-- Lua's stack takes some thousands of values at once.
local SLICE = 1000

local function in_slices(command, ids, ...)
  local arguments = {...}
  local count = 0
  for first = 1, #ids, SLICE do
    local words = {command, unpack(arguments)}
    for at = first, math.min(first + SLICE - 1, #ids) do
      words[#words + 1] = ids[at]
    end
    count = count + redis.call(unpack(words))
  end
  return count
end

-- Whether an id is at or before another one. The halves go up to 2^64 and are compared as text, since numbers in Lua are
-- exact up to 2^53 only.
local function less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function reached(id, last)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  local last_ms, last_sequence = string.match(last, '^(%d+)-(%d+)$')
  if ms ~= last_ms then
    return less(ms, last_ms)
  end
  return not less(last_sequence, sequence)
end

-- The other groups of a stream, each with how far it has read.
local function other_groups(key)
  local others = {}
  if redis.call('EXISTS', key) == 1 then
    for _, pairs in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      local about = {}
      for at = 1, #pairs, 2 do
        about[pairs[at]] = pairs[at + 1]
      end
      if about['name'] ~= group then
        others[#others + 1] = about
      end
    end
  end
  return others
end

-- Deletes entries, but those that one of the groups has still to read or to acknowledge. Returns how many.
local function delete_unwanted(key, ids, groups)
  local done = {}
  for _, id in ipairs(ids) do
    local wanted = false
    for _, about in ipairs(groups) do
      wanted = wanted or not reached(id, about['last-delivered-id'])
        or #redis.call('XPENDING', key, about['name'], id, id, 1) > 0
    end
    if not wanted then
      done[#done + 1] = id
    end
  end
  return in_slices('XDEL', done, key)
end

-- Acknowledges entries, and deletes those that no other group has still to read or to acknowledge.
local function forget(key, ids)
  local acknowledged = in_slices('XACK', ids, key, group)
  if delete and #ids > 0 then
    delete_unwanted(key, ids, other_groups(key))
  end
  return acknowledged
end

-- Moves a pending entry to the dead letters. One that was trimmed away meanwhile leaves nothing to move.
local function bury(key, dead, id, consumer, deliveries, reason)
  local found = redis.call('XRANGE', key, id, id)[1]
  if found then
    local time = redis.call('TIME')
    local fields = found[2]
    for _, word in ipairs({
      'dead:id', id,
      'dead:group', group,
      'dead:consumer', consumer,
      'dead:deliveries', deliveries,
      'dead:at', string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)),
      'dead:reason', reason,
    }) do
      fields[#fields + 1] = word
    end
    redis.call('XADD', dead, '*', unpack(fields))
  end
  forget(key, {id})
  return found and 1 or 0
end
