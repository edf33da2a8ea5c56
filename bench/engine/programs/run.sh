#!/bin/sh
# run NAME   the work of one program of the suite, in the guest
# run warm   each of them on next to nothing: what is timed later is a program, not the reading of its file from a disk
export LC_ALL=C
cd /suite || exit

speed() {
  # What it prints is another number each time: it is kept apart from what the checksum is of.
  openssl speed -elapsed -mr -seconds 1 -bytes 8192 "$@" >/tmp/rate 2>/dev/null
}

case $1 in
awk)
  busybox awk 'NR > 2500 { exit } { for (i = 1; i <= NF; i++) count[$i] += length($i) * NR % 7 }
    END { for (word in count) { words++; sum += count[word] }; print words, sum }' text
  ;;
gzip) gzip -6 <text ;;
sort) sort -k 3 -o /tmp/sorted text && tail -n 5 /tmp/sorted ;;
sha256sum) cat text text text text text text text text | sha256sum ;;
openssl-sha256) speed -evp sha256 ;;
openssl-aes) speed -evp aes-128-cbc ;;
openssl-rsa) speed rsa2048 ;;
sqlite) sqlite3 :memory: <query.sql ;;
python-start) for i in 1 2 3; do python3 -c "print($i)"; done ;;
python) python3 work.py ;;
gcc) gcc -O1 -c lz.c -o /tmp/lz.o && cat /tmp/lz.o ;;
warm)
  echo 'int one;' >/tmp/one.c
  {
    busybox awk 'BEGIN { print 1 }'
    cat text >/dev/null
    echo 1 | gzip
    echo 1 | sort
    echo 1 | sha256sum
    openssl version
    echo 'select 1;' | sqlite3 :memory:
    python3 -c 1
    gcc -O2 -c /tmp/one.c -o /tmp/one.o
  } >/dev/null
  ;;
*)
  echo "there is no program $1" >&2
  exit 2
  ;;
esac
