-- Creates a group where it is missing, from the first entry on, and the stream with it.
--
-- KEYS     streams
-- ARGV     group
for _, key in ipairs(KEYS) do
  local created = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
  if created['err'] and not string.find(created['err'], '^BUSYGROUP') then
    return created
  end
end
return redis.status_reply('OK')
