# Runs a server exactly as long as somebody holds this script's stdin open: sh -c SCRIPT sh FOLDER PROGRAM ARGUMENT...
# The end of the holder, however it came about, closes that pipe; the folder goes with the server. What the server wrote
# last is printed: it matters only if the server ended by itself.
folder=$1
shift
# A background job's stdin is /dev/null, whatever the script's own is.
exec 3<&0
"$@" </dev/null >"$folder/log" 2>&1 3<&- &
server=$!
(
    read -r _ <&3
    # It keeps nothing on disk: a slower stop would save nothing.
    kill -9 "$server"
) &
keeper=$!
wait "$server"
kill "$keeper"
tail -c 2000 "$folder/log"
rm -rf "$folder"
