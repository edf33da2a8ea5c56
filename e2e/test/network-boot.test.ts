// Machines that boot from the network: iPXE in the ROM of a card, an address by DHCP, files by TFTP and HTTP.
import { spawnSync } from 'node:child_process'
import { createReadStream, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { bootDisk, networkProgram } from '../src/boot-sector.ts'
import { must, withFolder } from '../src/disk.ts'
import { guestFiles, prompt, withMachine } from '../src/guest.ts'
import { hasTshark, malformed, readCapture } from '../src/pcap.ts'

/** A kernel by TFTP is ten thousand datagrams. */
const long = process.env['LONG'] === undefined ? test.skip : test.serial
const cards = ['virtio-net-pci', 'e1000', 'e1000e', 'rtl8139'] as const

/** A machine whose card, if anything, boots: `network` are the properties of its back end. */
function machine(card: string, network: string, ...more: string[]): string[] {
  const folders = ['-L', guestFiles.firmware, '-L', guestFiles.ipxe]
  const nic = ['-netdev', `user,id=n${network}`, '-device', `${card},netdev=n`]
  return ['-m', '256', '-nographic', ...folders, ...nic, ...more]
}

/** Serves guest files over HTTP on loopback, where guests find them at 10.0.2.2; what was asked for. */
async function withServer(
  files: Readonly<Record<string, string>>,
  work: (port: number, asked: string[]) => Promise<void>,
): Promise<void> {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const path = files[request.url ?? '']
    asked.push(`${request.method} ${request.url}`)
    if (path === undefined) return void response.writeHead(404).end()
    response.setHeader('Content-Length', statSync(path).size)
    createReadStream(path).pipe(response)
  })
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  try {
    await work((server.address() as AddressInfo).port, asked)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/** What tshark says of the frames of a capture that pass its filter: fields between tabs, lines of them. */
function fields(capture: string, filter: string, ...names: string[]): string[] {
  const wanted = names.flatMap((name) => ['-e', name])
  const args = ['-n', '-r', capture, '-Y', filter, '-T', 'fields', ...wanted]
  const { stdout } = spawnSync('tshark', args, { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => line !== '')
}

for (const card of cards) {
  test.serial(`${card}: iPXE of its ROM gets a program by TFTP and runs it`, async (t) => {
    await withFolder(async (folder) => {
      const [files, capture] = [join(folder, 'tftp'), join(folder, 'capture')] as const
      must('mkdir', [files])
      writeFileSync(join(files, 'program'), networkProgram('Here is the network.', 20_000))
      const dump = ['-object', `filter-dump,id=d,netdev=n,file=${capture}`]
      const args = machine(card, `,tftp=${files},bootfile=program`, '-boot', 'n', ...dump)
      await withMachine(args, async (guest) => {
        await guest.expect(/Booting from ROM[^]*Configuring \(net0 52:54:00:12:34:56\)\.+ ok/)
        await guest.expect(/Next server: 10\.0\.2\.2\s+Filename: program/)
        await guest.expect(/tftp:\/\/10\.0\.2\.2\/program\.+ ok[^]*Here is the network\./)
        t.deepEqual(await guest.end(), { code: 0, signal: null })
      })
      t.deepEqual(readCapture(readFileSync(capture)).faults, [])
      if (!hasTshark) return
      t.deepEqual(malformed(capture), [])
      // Its own question is there before each answer: discover, offer, ..., request, acknowledgement.
      const types = fields(capture, 'dhcp', 'dhcp.option.dhcp')
      t.deepEqual(types.slice(0, 2), ['1', '2'])
      t.deepEqual(types.slice(-2), ['3', '5'])
      const [answer] = fields(capture, 'dhcp.option.dhcp == 5', 'dhcp.ip.server', 'dhcp.file')
      t.is(answer, '10.0.2.2\tprogram')
      const request = fields(capture, 'tftp.opcode == 1', 'tftp.source_file', 'tftp.type')
      t.deepEqual(request, ['program\toctet'])
      const options = fields(capture, 'tftp.opcode == 6', 'tftp.option.name', 'tftp.option.value')
      t.deepEqual(options, ['blksize,tsize\t1432,20000'])
      t.is(fields(capture, 'tftp.opcode == 3', 'tftp.block').length, 14)
    })
  })
}

test.serial(
  'a kernel and its initial RAM disk come over HTTP, by the URL that DHCP gives',
  async (t) => {
    await withFolder(async (folder) => {
      const script = join(folder, 'boot.ipxe')
      const files = {
        '/boot.ipxe': script,
        '/vmlinuz': guestFiles.kernel,
        '/initrd': `${guestFiles.initrd}.gz`,
      }
      await withServer(files, async (port, asked) => {
        const lines = [
          '#!ipxe',
          'kernel vmlinuz console=ttyS0 quiet netboot',
          'initrd initrd',
          'boot',
        ]
        writeFileSync(script, `${lines.join('\n')}\n`)
        const url = `http://10.0.2.2:${port}/boot.ipxe`
        const args = machine('virtio-net-pci,bootindex=0', `,bootfile=${url}`)
        await withMachine(args, async (guest) => {
          await guest.expect(prompt)
          t.regex(await guest.shell('cat /proc/cmdline'), /netboot/)
          t.regex(await guest.shell('dmesg'), /DMI: QEMU/)
        })
        t.deepEqual(
          asked,
          Object.keys(files).map((path) => `GET ${path}`),
        )
      })
    })
  },
)

test.serial(
  'files that are not there or not for the guest are refused, and the disk is next',
  async (t) => {
    await withFolder(async (folder) => {
      const [files, image] = [join(folder, 'tftp'), join(folder, 'disk')] as const
      must('mkdir', [files])
      writeFileSync(image, bootDisk('booted', ''))
      const script = [
        '#!ipxe',
        'imgfetch ../disk ||',
        'imgfetch disk ||',
        'imgfetch absent ||',
        'exit',
      ]
      writeFileSync(join(files, 'script'), `${script.join('\n')}\n`)
      must('ln', ['-s', image, join(files, 'disk')])
      const drive = ['-drive', `file=${image},if=virtio,format=raw`]
      const args = machine('e1000', `,tftp=${files},bootfile=script`, '-boot', 'nc', ...drive)
      await withMachine(args, async (guest) => {
        const text = await guest.expect(/Booting from Hard Disk[^]*booted/)
        t.is(text.match(/Error 0x|\(http:\/\/ipxe\.org\//g)?.length, 3, text)
        t.is((await guest.end()).code, 0)
      })
    })
  },
)

for (const card of cards) {
  long(`${card}: a kernel and its initial RAM disk come by TFTP`, async (t) => {
    t.timeout(900_000)
    await withFolder(async (folder) => {
      must('cp', [guestFiles.kernel, join(folder, 'vmlinuz')])
      must('cp', [`${guestFiles.initrd}.gz`, join(folder, 'initrd')])
      const lines = ['#!ipxe', 'kernel vmlinuz console=ttyS0 quiet', 'initrd initrd', 'boot']
      writeFileSync(join(folder, 'script'), `${lines.join('\n')}\n`)
      const args = machine(card, `,restrict=on,tftp=${folder},bootfile=script`, '-boot', 'order=n')
      await withMachine(args, async (guest) => {
        await guest.expect(prompt)
        t.is(await guest.shell('uname -s'), 'Linux\n')
      })
    })
  })
}

long('UEFI firmware runs the other image of the ROM, with a script by TFTP', async (t) => {
  t.timeout(900_000)
  await withFolder(async (folder) => {
    writeFileSync(join(folder, 'script'), '#!ipxe\necho On ${platform} by ${net0/mac}\nexit\n')
    const uefi = ['-L', guestFiles.ovmf, '-bios', 'OVMF.fd']
    const card = 'virtio-net-pci,bootindex=0'
    const args = machine(card, `,tftp=${folder},bootfile=script`, ...uefi)
    await withMachine(args, async (guest) => {
      const text = await guest.expect(/On \w+ by [\d:]{17}/)
      t.regex(text, /On efi by 52:54:00:12:34:56/)
    })
  })
})
