// A whole Debian on a network in user mode, as its users have it: an address by DHCP, ssh in, files to and fro, a web server
// of the host, and the driver taken out and put back. Only `npm run test:guests` has the disk. With LONG the files have 1 GiB.
import { execFile, spawnSync } from 'node:child_process'
import { createReadStream, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { must, withFolder } from '../../src/disk.ts'
import { freePort } from '../../src/free-port.ts'
import { imageCommand } from '../../src/guest.ts'
import { fileSum, writeRandomFile } from '../../src/random-file.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip
const hasSsh = spawnSync('ssh', ['-V']).status === 0
const mebibytes = process.env['LONG'] === undefined ? 64 : 1024

wanted('Debian gets an address, and ssh, scp and HTTP work in both directions', async (t) => {
  t.timeout(3_600_000)
  if (!hasSsh) {
    t.log('ssh is not installed: this test is left out')
    t.pass()
    return
  }
  const port = await freePort()
  await withFolder(async (folder) => {
    const file = join(folder, 'file')
    const sum = writeRandomFile(file, mebibytes)
    const server = createServer((_request, response) => createReadStream(file).pipe(response))
    server.listen(0, '127.0.0.1')
    t.teardown(() => server.close())
    // The guest's own disk has no room for the long form.
    const disk = join(folder, 'data')
    must(imageCommand, ['create', '-f', 'qcow2', disk, '2G'])
    const key = join(folder, 'key')
    must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
    const network = ['-nic', `user,model=virtio,hostfwd=tcp:127.0.0.1:${port}-:22`]
    const data = ['-drive', `file=${disk},if=virtio`]
    const args = debianArguments(debianOverlay(folder), '-smp', '2', ...network, ...data)
    const options = '-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'
    const common = [...options.split(' '), '-o', 'LogLevel=ERROR', '-i', key]
    const run = async (program: string, ...rest: string[]): Promise<string> =>
      (await promisify(execFile)(program, [...common, ...rest], { timeout: 1_200_000 })).stdout
    const ssh = (line: string): Promise<string> =>
      run('ssh', '-p', String(port), 'root@127.0.0.1', line)
    const scp = (from: string, to: string): Promise<string> =>
      run('scp', '-q', '-P', String(port), from, to)

    const code = await withDebian(args, async (shell) => {
      await shell('mkdir -p -m 700 .ssh')
      // Short lines: the console breaks what it echoes.
      const text = readFileSync(`${key}.pub`, 'utf8').trim()
      for (const part of text.match(/.{1,40}/g) ?? []) await shell(`printf %s '${part}' >>.ssh/k`)
      await shell('mv .ssh/k .ssh/authorized_keys')
      t.regex(await shell('ip -4 -br address | grep ^en'), /^en\S+ +UP +10\.0\.2\.15\/24/)
      t.is(await ssh('uname -s'), 'Linux\n')

      await ssh('mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt')
      await scp(file, 'root@127.0.0.1:/mnt/in')
      t.is(await ssh('sha256sum /mnt/in'), `${sum}  /mnt/in\n`)
      await scp('root@127.0.0.1:/mnt/in', `${file}.back`)
      t.is(await fileSum(`${file}.back`), sum)
      rmSync(`${file}.back`)

      // The host's loopback is 10.0.2.2 in the guest.
      const web = (server.address() as AddressInfo).port
      const fetch = `exec 3<>/dev/tcp/10.0.2.2/${web}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; sed '1,/^\\r$/d' <&3 | sha256sum`
      t.is(await ssh(`bash -c "${fetch.replaceAll('$', '\\$')}"`), `${sum}  -\n`)
      t.regex(await ssh('ping -f -q -c 2000 10.0.2.2'), / 2000 received, 0% packet loss/)

      const again = 'modprobe -r virtio_net; modprobe virtio_net'
      await shell(`for i in $(seq 100); do ${again}; done`)
      const back = 'until ip -4 address | grep -q 10.0.2.15; do sleep 0.2; done'
      await shell(back)
      t.deepEqual(kernelErrors(await ssh(errorMessages)), [])
    })
    t.is(code, 0)
  })
})
