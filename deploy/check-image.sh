#!/usr/bin/env bash
# Runs an image's folder tree as a hardened container would, without a container
# engine: a read-only root, an empty volume at /data, user 65532, no capability.
# Asks it for an answer of the demo model and ends it with SIGTERM. Needs root,
# util-linux and curl; PORT=18080 is where it listens.
#
#   docker create --name t tokenhub && docker export t | tar -x -C DIR
#   deploy/check-image.sh DIR
set -euo pipefail
root=$(cd "${1:?the folder with the tree of the image}" && pwd)
export PORT=${PORT:-18080}

fail() { echo "FAIL: $*" >&2; exit 1; }

[ "$(stat -c '%u:%g %a' "$root/data")" = "65532:65532 700" ] || fail "/data is $(stat -c '%u:%g %a' "$root/data")"
[ -s "$root/etc/ssl/certs/ca-certificates.crt" ] || fail "there are no certificates"
for name in bin sbin lib usr/bin; do
    [ ! -e "$root/$name" ] || fail "there is a /$name in the image"
done

work=$(mktemp -d)
mkdir "$work/data"
chown 65532:65532 "$work/data"
chmod 700 "$work/data"
server=
end() {
    if [ -n "$server" ]; then kill -9 "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap end EXIT

# inside ARGS...: tokenhub as the container runs it.
inside() {
    exec unshare --mount --propagation private bash -c '
        mount --bind -o ro "$1" "$1" && mount -o remount,bind,ro "$1" && mount --bind "$2" "$1/data"
        cd "$1" && shift 2
        exec env -i PATH="$PATH" TOKENHUB_LISTEN="0.0.0.0:$PORT" TOKENHUB_DATA_DIR=/data \
            setpriv --no-new-privs --inh-caps=-all chroot --userspec=65532:65532 . /usr/local/bin/tokenhub "$@"' inside "$root" "$work/data" "$@"
}

(inside serve --demo) >"$work/out" 2>"$work/log" </dev/null &
server=$!
for _ in $(seq 100); do
    ! curl -fs "http://127.0.0.1:$PORT/readyz" >/dev/null || break
    kill -0 "$server" 2>/dev/null || fail "it ended: $(cat "$work/log")"
    sleep 0.1
done
(inside healthcheck) || fail "the health check"
key=$(inside keys create --name image --quiet) || fail "keys create"
answer=$(curl -fsN "http://127.0.0.1:$PORT/v1/chat/completions" -H "Authorization: Bearer $key" \
    -H 'Content-Type: application/json' -d '{"model":"demo","stream":true,"messages":[{"role":"user","content":"hi"}]}')
[[ $answer == *"data: [DONE]"* ]] || fail "the answer is $answer"
# A body that is larger than what is kept in memory goes to a file: of /data, the
# only place that can be written to.
head -c 3000000 /dev/zero | tr '\0' x | sed 's/^/{"model":"demo","messages":[{"role":"user","content":"/; s/$/"}]}/' >"$work/large"
curl -fs -o /dev/null "http://127.0.0.1:$PORT/v1/chat/completions" -H "Authorization: Bearer $key" \
    -H 'Content-Type: application/json' --data-binary "@$work/large" || fail "a large body"
[ "$(awk '/^Uid:/ { print $2 }' "/proc/$server/status")" = 65532 ] || fail "it runs as another user"
[ "$(awk '/^CapEff:/ { print $2 }' "/proc/$server/status")" = 0000000000000000 ] || fail "it has capabilities"
[ -z "$(find "$work/data" -perm /077 ! -type l)" ] || fail "others can read $(find "$work/data" -perm /077)"
kill -TERM "$server"
wait "$server" || fail "it ended with $?: $(cat "$work/log")"
server=
echo "ok: answers as user 65532 on a read-only root, and ends in order"
