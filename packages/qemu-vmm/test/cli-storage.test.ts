import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { parseCommand } from '../src/cli/parse.ts'
import { commandLine } from './support/command-line.ts'

const { config, refusal, printed } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')

test('drive: a virtio disk is an image and a device', (t) => {
  const { drives, plug } = config('-drive', 'file=a,,b.qcow2,if=virtio', '-drive', 'c,if=virtio')
  t.deepEqual(drives, [
    { id: 'virtio0', file: 'a,b.qcow2', deleteWithDevice: true },
    { id: 'virtio1', file: 'c', deleteWithDevice: true },
  ])
  t.deepEqual(plug, [
    { driver: 'virtio-blk-pci', properties: { drive: 'virtio0' } },
    { driver: 'virtio-blk-pci', properties: { drive: 'virtio1' } },
  ])
})

test('drive: every key has its effect', (t) => {
  const keys =
    'file=x,if=none,id=d,format=raw,cache=none,readonly=on,snapshot=off,discard=on,werror=stop,rerror=stop,aio=native'
  t.deepEqual(config('-drive', keys).drives, [
    {
      id: 'd',
      file: 'x',
      format: 'raw',
      cache: 'none',
      aio: 'native',
      readOnly: true,
      snapshot: false,
      discard: 'unmap',
      werror: 'stop',
      rerror: 'stop',
      deleteWithDevice: true,
    },
  ])
  t.true(config('-drive', 'file=x,if=virtio', '-snapshot').drives?.[0]?.snapshot)
  t.deepEqual(config('-drive', 'file=x,if=virtio,serial=S1,addr=7').plug?.[0]?.properties, {
    drive: 'virtio0',
    serial: 'S1',
    addr: '7',
  })
})

test('drive: what is not there is refused with what is', (t) => {
  t.regex(refusal('-drive', 'file=x,if=scsi'), /use if=virtio/)
  t.regex(refusal('-drive', 'file=x,if=virito'), /did you mean 'virtio'/)
  t.regex(refusal('-drive', 'if=virtio'), /'file' is missing/)
  t.regex(refusal('-drive', 'file=x,if=virtio,format=qcow3'), /did you mean 'qcow2'/)
  t.regex(refusal('-drive', 'file=x,if=virtio,cache=fast'), /valid: writeback/)
  t.regex(refusal('-drive', 'file=x,if=virtio,werror=panic'), /valid: report/)
  t.regex(refusal('-drive', 'file=x,if=none,id=a', '-drive', 'file=y,if=none,id=a'), /Duplicate/)
  t.regex(refusal('-drive', 'file=x,if=none,serial=S'), /needs if=virtio or ide/)
  t.regex(refusal('-drive', 'file=x,if=virtio,media=cdrom'), /no CD drive/)
  t.regex(refusal('-drive', 'if=ide'), /'file' is missing/)
  t.regex(refusal('-drive', 'file=x,index=4'), /too big \(max is 3\)/)
  t.regex(refusal('-drive', 'file=x,unit=2'), /too big \(max is 1\)/)
  t.regex(refusal('-drive', 'file=x,index=0,bus=1'), /index cannot be used with bus/)
  t.regex(refusal('-hda', 'x', '-drive', 'file=y,index=0'), /bus=0, unit=0 \(index=0\) exists/)
  t.regex(refusal('-drive', 'file=x,if=virtio,unit=1'), /needs if=ide/)
  t.regex(refusal('-drive', 'file=x,if=virtio,index=many'), /number/)
  t.regex(refusal('-drive', 'file=x,if=virtio,aio=iouring'), /did you mean 'io_uring'/)
  t.regex(refusal('-drive', 'file=x,if=virtio,aio=thread'), /did you mean 'threads'/)
  t.regex(refusal('-drive', 'file=x,if=virtio,redonly=on'), /did you mean 'readonly'/)
})

test('blockdev: nodes stand on files, named or described in place', (t) => {
  const own = { id: 'd', file: 'x', format: 'qcow2', locking: true }
  t.deepEqual(config('-blockdev', 'qcow2,node-name=d,file.driver=file,file.filename=x').drives, [
    own,
  ])
  t.deepEqual(
    config(
      '-blockdev',
      'file,node-name=f,filename=x',
      '-blockdev',
      'driver=qcow2,node-name=d,file=f',
    ).drives,
    [own],
  )
  const direct = 'file,node-name=f,filename=x,cache.direct=on,aio=native'
  t.deepEqual(config('-blockdev', direct, '-blockdev', 'qcow2,node-name=d,file=f').drives, [
    { ...own, cache: 'none', aio: 'native' },
  ])
  const json = { driver: 'qcow2', 'node-name': 'd', file: { driver: 'file', filename: 'x' } }
  t.deepEqual(config('-blockdev', JSON.stringify(json)).drives, [own])
  t.deepEqual(config('-blockdev', 'file,node-name=f,filename=x,read-only=on').drives, [
    { id: 'f', file: 'x', format: 'raw', locking: true, readOnly: true },
  ])
})

test('blockdev: a file that must not be written to is read only, if it may be', (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'blockdev-')), 'disk')
  t.teardown(() => rmSync(dirname(file), { recursive: true }))
  chmodSync(dirname(file), 0o755)
  writeFileSync(file, 'x', { mode: 0o444 })
  const node = (auto: string) => `file,node-name=f,filename=${file}${auto}`
  // Root may write everywhere: it is asked as somebody else.
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(65_534)
  try {
    const drive = { id: 'f', format: 'raw', file, locking: true } as const
    t.deepEqual(config('-blockdev', node(',auto-read-only=on')).drives, [
      { ...drive, readOnly: true },
    ])
    t.deepEqual(config('-blockdev', node('')).drives, [drive])
    t.deepEqual(config('-blockdev', node(',auto-read-only=off')).drives, [drive])
    // A format says by itself whether it writes.
    const above = ['-blockdev', node(',auto-read-only=on'), '-blockdev', 'raw,node-name=r,file=f']
    t.deepEqual(config(...above).drives, [{ ...drive, id: 'r' }])
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
  t.deepEqual(
    config('-blockdev', `file,node-name=f,filename=${file}.no,auto-read-only=on`).drives,
    [{ id: 'f', format: 'raw', file: `${file}.no`, locking: true }],
  )
  t.regex(refusal('-blockdev', node(',auto-read-only=maybe')), /auto-read-only/)
  t.regex(refusal('-blockdev', 'raw,node-name=d,file.filename=x,auto-read-only=on'), /unexpected/)
})

test('blockdev: what is wrong is named', (t) => {
  t.regex(refusal('-blockdev', 'qcow9,node-name=d'), /did you mean 'qcow2'/)
  t.regex(refusal('-blockdev', 'raw,file.filename=x'), /node-name/)
  t.regex(refusal('-blockdev', 'raw,node-name=9,file.filename=x'), /Invalid node-name/)
  t.regex(refusal('-blockdev', 'raw,node-name=d'), /file/)
  t.regex(
    refusal('-blockdev', 'file,node-name=f,filename=x,aio=uring'),
    /does not accept value 'uring'/,
  )
  t.regex(refusal('-blockdev', 'raw,node-name=d,file=nobody'), /nobody/)
  t.regex(refusal('-blockdev', 'raw,node-name=d,file.filename=x,sise=3'), /'sise' is unexpected/)
  t.regex(refusal('-blockdev', '{"driver":'), /JSON/)
  const twice = ['-blockdev', 'file,node-name=f,filename=x']
  t.regex(refusal(...twice, ...twice), /Duplicate/)
})

test('device: names and properties are those of the list', (t) => {
  t.deepEqual(config('-device', 'virtio-blk-pci,id=disk0,drive=d,addr=0x5').plug, [
    { driver: 'virtio-blk-pci', id: 'disk0', properties: { drive: 'd', addr: '0x5' } },
  ])
  const json = '{"driver":"virtio-rng-pci","id":"r","vectors":1}'
  t.deepEqual(config('-device', json).plug, [
    { driver: 'virtio-rng-pci', id: 'r', properties: { vectors: '1' } },
  ])
  t.regex(printed('-device', 'help'), /Storage devices:\nname "virtio-blk-pci", bus PCI/)
  t.regex(printed('-device', 'virtio-blk-pci,help'), /drive=<.*>/)
  t.regex(refusal('-device', 'virtio-blk-pic'), /did you mean 'virtio-blk-pci'/)
  t.regex(refusal('-device', 'virtio-blk-pci,drvie=d'), /did you mean 'drive'/)
  t.regex(refusal('-device', 'virtio-blk-pci,id=1'), /identifier/)
  t.regex(
    refusal('-device', 'virtio-rng-pci,id=r', '-device', 'virtio-rng-pci,id=r'),
    /Duplicate device ID/,
  )
})

test('drive: an IDE disk has a place, and the CD drive is where QEMU has it', (t) => {
  const { drives, plug } = config('-hda', 'a,b', '-drive', 'file=c', '-cdrom', 'd.iso')
  t.deepEqual(drives, [
    { id: 'ide0-hd0', file: 'a,b', deleteWithDevice: true },
    { id: 'ide0-hd1', file: 'c', deleteWithDevice: true },
    { id: 'ide1-cd0', file: 'd.iso', deleteWithDevice: true, readOnly: true },
  ])
  const disk = (drive: string, bus: number, unit: number): object => ({
    driver: drive.includes('cd') ? 'ide-cd' : 'ide-hd',
    properties: { drive, bus: `ide.${bus}`, unit: String(unit) },
  })
  t.deepEqual(plug, [disk('ide0-hd0', 0, 0), disk('ide0-hd1', 0, 1), disk('ide1-cd0', 1, 0)])
  const { plug: others } = config('-drive', 'file=x,bus=1,serial=S', '-drive', 'media=cdrom,unit=1')
  t.deepEqual(others, [
    { driver: 'ide-hd', properties: { drive: 'ide1-hd0', serial: 'S', bus: 'ide.1', unit: '0' } },
    { driver: 'ide-cd', properties: { drive: 'ide0-cd1', bus: 'ide.0', unit: '1' } },
  ])
})

test('default devices: empty CD and floppy drives, unless others are there', (t) => {
  const drivers = (...argv: string[]): string[] => {
    const command = parseCommand(['-kernel', 'k', '-nographic', ...argv])
    if (command.kind === 'print') throw new Error(command.text)
    return command.settings.driveDevices.map(({ driver }) => driver)
  }
  t.deepEqual(drivers(), ['ide-cd', 'floppy'])
  t.deepEqual(drivers('-hda', 'x'), ['ide-hd', 'ide-cd', 'floppy'])
  t.deepEqual(drivers('-nodefaults'), [])
  t.deepEqual(drivers('-cdrom', 'x'), ['ide-cd', 'floppy'])
  t.deepEqual(drivers('-hdc', 'x'), ['ide-hd', 'floppy'])
  t.deepEqual(drivers('-device', 'ide-cd'), ['floppy'])
  t.deepEqual(drivers('-device', 'floppy'), ['ide-cd'])
  t.deepEqual(drivers('-fda', 'x'), ['floppy', 'ide-cd'])
  t.deepEqual(drivers('-fdb', 'x'), ['floppy', 'ide-cd', 'floppy'])
  t.deepEqual(drivers('-M', 'q35'), ['ide-cd'])
  const { drives } = config('-drive', 'if=none,id=spare')
  t.deepEqual(drives, [{ id: 'spare', deleteWithDevice: true }])
  t.regex(refusal('-drive', 'if=virtio'), /'file' is missing/)
})

test('floppy disks: -fda, -fdb and if=floppy are drives of the controller', (t) => {
  const { drives, plug } = config('-fdb', 'b.img', '-drive', 'file=a.img,if=floppy,readonly=on')
  t.deepEqual(drives, [
    { id: 'floppy1', file: 'b.img', deleteWithDevice: true },
    { id: 'floppy0', file: 'a.img', deleteWithDevice: true, readOnly: true },
  ])
  t.deepEqual(plug, [
    { driver: 'floppy', properties: { drive: 'floppy1', unit: '1' } },
    { driver: 'floppy', properties: { drive: 'floppy0', unit: '0' } },
  ])
  t.regex(refusal('-fda', 'a', '-fda', 'b'), /unit=0 \(index=0\) exists/)
  t.regex(refusal('-fda', 'a', '-fdb', 'b', '-drive', 'c,if=floppy'), /has 2 floppy drives/)
  t.regex(refusal('-drive', 'c,if=floppy,media=cdrom'), /no CD drive/)
  t.deepEqual(config('-drive', 'c,if=floppy,bootindex=1').plug?.[0]?.properties, {
    drive: 'floppy0',
    unit: '0',
    bootindex: '1',
  })
})

test('machine: nodes are flash chips, as libvirt asks for them', (t) => {
  const node = (name: string): string[] => [
    '-blockdev',
    `file,filename=${name}.fd,node-name=${name}`,
  ]
  const both = [...node('code'), ...node('vars')]
  t.deepEqual(config('-M', 'q35,pflash0=code,pflash1=vars', ...both).flash, ['code', 'vars'])
  const drive = ['-drive', 'if=pflash,unit=0,file=x']
  t.regex(refusal(...drive, '-M', 'q35,pflash0=code', ...both), /flash chip 0 is the drive/)
  t.regex(refusal('-M', 'q35,pflash2=code', ...both), /pflash2/)
})
