// Debian's network under load: parallel streams of iperf3 in both directions while files are fetched whose contents are checked,
// apt from an archive on the host's loopback, and a capture in which Wireshark finds nothing wrong.
import { spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { withFolder } from '../../src/disk.ts'
import { freePort } from '../../src/free-port.ts'
import { archiveFiles, serveFiles } from '../../src/local-mirror.ts'
import { hasTshark, malformed, readCapture } from '../../src/pcap.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip
const hasIperf = spawnSync('iperf3', ['--version']).status === 0

const sum = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

const online = 'until ip -4 address | grep -q 10.0.2.15; do sleep 0.2; done'

/** A line that fetches a path of a server of the host, and prints the checksum of its contents. */
function fetched(port: number, path: string): string {
  const ask = `printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n'`
  return `(exec 3<>/dev/tcp/10.0.2.2/${port}; ${ask} >&3; sed '1,/^\\r$/d' <&3 | sha256sum)`
}

wanted('apt installs from an archive of the host, and the capture of it is whole', async (t) => {
  t.timeout(1_800_000)
  const payload = randomBytes(16 << 20)
  await withFolder(async (folder) => {
    const server = await serveFiles(archiveFiles(folder, payload))
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const dump = join(folder, 'frames.pcap')
    const network = ['-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n']
    const capture = ['-object', `filter-dump,id=d,netdev=n,file=${dump}`]
    const args = debianArguments(debianOverlay(folder), ...network, ...capture)
    const code = await withDebian(args, async (shell) => {
      await shell(online)
      const source = `deb [trusted=yes] http://10.0.2.2:${port}/ ./`
      await shell(`echo '${source}' >/etc/apt/sources.list`)
      t.regex(await shell('apt-get -qq update && echo it was read'), /^it was read$/m)
      const install = await shell('apt-get -qq -y install from-the-mirror </dev/null')
      t.regex(install, /Setting up from-the-mirror/)
      t.is(await shell('sha256sum /opt/payload'), `${sum(payload)}  /opt/payload\n`)
      t.deepEqual(kernelErrors(await shell(errorMessages)), [])
    })
    t.is(code, 0)
    const { tcp, faults } = readCapture(readFileSync(dump))
    t.deepEqual(faults, [])
    t.true(tcp > 100, `${tcp} segments`)
    if (hasTshark) t.deepEqual(malformed(dump), [])
    else t.log('tshark is not installed: the capture was read by this test alone')
  })
})

/** Cards, and machines that have them. */
const cards = [
  ['virtio', 'pc'],
  ['e1000e', 'q35'],
] as const

const parallel = test.macro({
  title: (_, card: string) => `parallel streams in both directions by ${card} leave nothing out`,
  async exec(t, card: string, machine: string) {
    t.timeout(1_800_000)
    if (!hasIperf) {
      t.log('iperf3 is not installed: this test is left out')
      t.pass()
      return
    }
    const files = Array.from({ length: 4 }, () => randomBytes(8 << 20))
    const server = await serveFiles(new Map(files.map((bytes, i) => [`/${i}`, bytes])))
    t.teardown(() => server.close())
    const web = (server.address() as AddressInfo).port
    await withFolder(async (folder) => {
      const args = debianArguments(
        debianOverlay(folder),
        '-machine',
        machine,
        '-smp',
        '2',
        '-nic',
        `user,model=${card}`,
      )
      const code = await withDebian(args, async (shell) => {
        await shell(online)
        for (const direction of ['', '-R']) {
          const port = await freePort()
          const iperf = spawn('iperf3', ['-s', '-1', '-J', '-B', '127.0.0.1', '-p', String(port)])
          t.teardown(() => iperf.kill())
          let report = ''
          iperf.stdout.setEncoding('utf8').on('data', (text: string) => (report += text))
          const ended = once(iperf, 'close')
          const streams = `iperf3 -c 10.0.2.2 -p ${port} -P 8 -n 512M ${direction}`
          const fetches = files.map((_, i) => `${fetched(web, `/${i}`)} >sum${i} &`).join(' ')
          const line = `sleep 1; ${fetches} ${streams} >iperf; echo "ended with $?" >end; wait`
          await shell(`(${line}) 2>/dev/null`)
          t.is(await shell('cat end'), 'ended with 0\n', direction)
          for (const [i, bytes] of files.entries()) {
            t.is(await shell(`cat sum${i}`), `${sum(bytes)}  -\n`, direction)
          }
          await ended
          const { error, end } = JSON.parse(report) as {
            error?: string
            end: { streams: { sender: { bytes: number }; receiver: { bytes: number } }[] }
          }
          t.is(error, undefined)
          t.is(end.streams.length, 8)
          for (const { sender, receiver } of end.streams) {
            t.true(sender.bytes + receiver.bytes > 0, `a stream stood still: ${report}`)
          }
        }
        // Nothing of them is left.
        t.regex(await shell('ss -Htn state established | wc -l'), /^0$/m)
        t.deepEqual(kernelErrors(await shell(errorMessages)), [])
      })
      t.is(code, 0)
    })
  },
})

for (const [card, machine] of cards) wanted(parallel, card, machine)
