// A disk of the host that is full in the middle of a guest's queue: errors reach who wrote, or the machine waits for room.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

const possible = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 't', '/mnt']).status === 0
const wanted = possible ? test.serial : test.serial.skip
if (!possible) test('full disks: left out, as mounts take root', (t) => t.pass())

const boot = bootArguments({ memoryMib: 192, initrd: guestFiles.diskInitrd })

/** A machine whose disk of 64 MiB is in a file system with room for 8, until a file comes. */
function onFullDisk(folder: string, werror: string, more: readonly string[]): string[] {
  const mount = join(folder, 'mount')
  const disk = join(mount, 'disk')
  const drive = `file=${disk},if=virtio,format=raw,cache=none,werror=${werror}`
  const args = [...boot, '-drive', drive, ...more]
  const script = [
    `mkdir ${mount} && mount -t tmpfs -o size=8m t ${mount} && truncate -s 64M ${disk}`,
    `(until test -e ${folder}/room; do sleep 0.1; done; mount -o remount,size=80m ${mount}) &`,
    `exec ${[command, ...args].map((word) => `'${word}'`).join(' ')}`,
  ]
  return ['-m', '-p', '-f', '--kill-child', 'sh', '-c', script.join('\n')]
}

/** Four writers at once, each with 8 MiB of its own in its own place, past the page cache; what each ended with. */
const writers = [
  'yes 0123456789abcdef | head -c 8388608 >/tmp/data',
  'for i in 0 1 2 3; do (dd if=/tmp/data of=/dev/vda bs=256k seek=$((i * 32)) oflag=direct 2>/dev/null',
  'echo $? >/tmp/end$i) & done; wait',
].join('\n')

wanted('errors of a full disk reach the requests that they are of, and no others', async (t) => {
  await withFolder(async (folder) => {
    await withGuest(
      onFullDisk(folder, 'report', []),
      async (guest) => {
        await guest.shell('dd if=/dev/zero of=/dev/vda bs=1M count=2 oflag=direct 2>/dev/null')
        for (const line of writers.split('\n')) await guest.shell(`echo '${line}' >>/tmp/run`)
        await guest.shell('sh /tmp/run')
        const ends = (await guest.shell('cat /tmp/end0 /tmp/end1 /tmp/end2 /tmp/end3')).trim()
        t.true(ends.split('\n').includes('1'), ends)
        t.regex(await guest.shell('dmesg | grep -c "I/O error, dev vda"'), /^[1-9]/)
        // What there was room for is there, and the queue goes on.
        const first = 'dd if=/dev/vda bs=1M count=2 iflag=direct 2>/dev/null | wc -c'
        t.is(await guest.shell(first), `${2 << 20}\n`)
        t.is(await guest.shell('cat /sys/block/vda/inflight'), '       0        0\n')
        await guest.shell(`dmesg -c >/dev/null`)
        t.is(
          await guest.shell(
            'dd if=/dev/vda of=/dev/null bs=1M count=64 2>&1 | grep -c error; true',
          ),
          '0\n',
        )
      },
      'unshare',
    )
  })
})

wanted(
  'a machine that stops at a full disk goes on when there is room, with nothing lost',
  async (t) => {
    await withFolder(async (folder) => {
      const path = join(folder, 'qmp')
      const args = onFullDisk(folder, 'enospc', ['-qmp', `unix:${path},server=on,wait=off`])
      await withGuest(
        args,
        async (guest) => {
          const qmp = await machineProtocol(path)
          try {
            await qmp.ask('qmp_capabilities')
            for (const line of writers.split('\n')) await guest.shell(`echo '${line}' >>/tmp/run`)
            const ends = guest.shell('sh /tmp/run; cat /tmp/end0 /tmp/end1 /tmp/end2 /tmp/end3')
            await qmp.event('STOP')
            t.like(await qmp.ask('query-status'), { status: 'io-error', running: false })
            spawnSync('touch', [join(folder, 'room')])
            await new Promise((resolve) => setTimeout(resolve, 1000))
            await qmp.ask('cont')
            t.is(await ends, '0\n0\n0\n0\n')
            const read = 'dd if=/dev/vda bs=1M count=32 iflag=direct 2>/dev/null | md5sum'
            const wrote = 'cat /tmp/data /tmp/data /tmp/data /tmp/data | md5sum'
            t.is(await guest.shell(read), await guest.shell(wrote))
          } finally {
            qmp.close()
          }
        },
        'unshare',
      )
    })
  },
)
