import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DriveConfig, MachineConfig, VmmError } from 'qemu-vmm'

import { readBios } from '../src/firmware/bios-image.ts'
import { PC_BIOS, findFirmware } from '../src/firmware/find.ts'
import { checkBootOptions } from '../src/machine/boot-options.ts'
import { BiosCode, biosImage } from './support/bios.ts'
import { scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const KIB = 1024
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

const EXIT: NonNullable<MachineConfig['plug']> = [
  { driver: 'isa-debug-exit', properties: { iobase: '0x501', iosize: '1' } },
]

/** A machine that runs this BIOS. */
function start(image: Uint8Array, extra: Partial<MachineConfig> = {}): Promise<VirtualMachine> {
  const bios = writeImage(folder, `bios-${Math.random()}`, image)
  return VirtualMachine.start({
    memory: 16 * MIB,
    accel: 'tcg',
    bios,
    plug: EXIT,
    log: () => {},
    ...extra,
  })
}

test('the areas below 1 MiB show what the host bridge says', async (t) => {
  const FILL = 'b'.charCodeAt(0)
  const letter = (text: string): number => text.charCodeAt(0)
  // The code is in the segment below, so that it stays while the BIOS segment changes.
  const code = new BiosCode()
    .dataSegment(0xf000)
    .send(0x1000)
    .store(0x1000, letter('x'))
    .send(0x1000)
    .configWrite(0, 0, 0x59, 0x30)
    .store(0x1000, letter('r'))
    .send(0x1000)
    .configWrite(0, 0, 0x59, 0x10)
    .store(0x1000, letter('x'))
    .send(0x1000)
    .configWrite(0, 0, 0x59, 0x00)
    .send(0x1000)
    .configWrite(0, 0, 0x59, 0x20)
    .send(0x1000)
    // C000: nothing, then RAM with its neighbour, over whose border a word lies.
    .dataSegment(0xc000)
    .send(0x3fff)
    .configWrite(0, 0, 0x5a, 0x33)
    .store(0x3fff, letter('1'))
    .store(0x4000, letter('2'))
    .configWrite(0, 0, 0x5a, 0x31)
    .store(0x3fff, letter('x'))
    .send(0x3fff)
    .store(0x4000, letter('3'))
    .send(0x4000)
    .exit(21)
  await using vm = await start(biosImage(128 * KIB, FILL, 0xe000, code))
  t.like(await vm.exited, { reason: 'shutdown', code: 43 })
  t.is(await vm.expect(/3/).catch((error: Error) => error.message), 'bbrrbr\ufffd13')
})

/** Keeps a letter in RAM where the BIOS is seen, and resets by port 0xcf9. */
function keepsAndResets(reset: number): Uint8Array {
  const code = new BiosCode()
    .dataSegment(0xf000)
    .send(0x2000)
    .configWrite(0, 0, 0x59, 0x30)
    .send(0x2000)
    .store(0x2000, 'k'.charCodeAt(0))
    .outb(0x3f8, 0x0a)
    .outb(0xcf9, reset)
    .exit(1)
  return biosImage(256 * KIB, 'b'.charCodeAt(0), 0xe000, code)
}

test('a reset of the processors leaves the areas and RAM as they are', async (t) => {
  await using vm = await start(keepsAndResets(0x04))
  t.is(await vm.expect('\n'), 'b\0\n')
  t.is(await vm.expect('\n'), 'kk\n')
  t.is(await vm.expect('\n'), 'kk\n')
})

test('a reset of PCI shows the BIOS again, and leaves RAM as it is', async (t) => {
  await using vm = await start(keepsAndResets(0x06))
  for (const shown of ['b\0', 'bk', 'bk']) t.is(await vm.expect('\n'), `${shown}\n`)
  // So does the button, wherever the guest is.
  await vm.reset()
  t.regex(await vm.expect('bk\n'), /bk\n$/)
})

test('a device cannot write into the BIOS, whichever boot it is', async (t) => {
  // fw_cfg's DMA reads four bytes of item 0 to 0xf2000, by a block at 0x500.
  const block = [0, 0, 0, 0x0a, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x0f, 0x20, 0]
  const code = new BiosCode().dataSegment(0xf000).send(0x2000).dataSegment(0)
  for (const [i, byte] of block.entries()) code.store(0x500 + i, byte)
  code.outl(0x518, 0x0005_0000).dataSegment(0xf000).send(0x2000).outb(0x3f8, 0x0a)
  const image = code.outb(0xcf9, 0x06).exit(1)
  await using vm = await start(biosImage(128 * KIB, 'b'.charCodeAt(0), 0xe000, image))
  for (let boot = 0; boot < 3; boot++) t.is(await vm.expect('\n'), 'bb\n')
})

test('a saved state has the areas as they were', async (t) => {
  const code = new BiosCode().configWrite(0, 0, 0x59, 0x30).dataSegment(0xf000)
  const image = biosImage(
    128 * KIB,
    0,
    0xe000,
    code.store(0x2000, 's'.charCodeAt(0)).outb(0x3f8, 0x21).exit(1),
  )
  await using first = await start(image, { plug: [] })
  await first.expect('!')
  const state = await first.saveState()
  await using second = await start(image, { plug: [], startPaused: true })
  await second.loadState(state)
  const saved = await second.saveState()
  t.deepEqual(saved.devices['pci'], state.devices['pci'])
  const run = state.ram.find(
    ({ offset, data }) => offset <= 0xf_2000 && 0xf_2000 < offset + data.length,
  )
  t.is(run?.data[0xf_2000 - run.offset], 's'.charCodeAt(0))
})

test('firmware of the wrong size is refused', async (t) => {
  for (const [size, message] of [
    [0, /0 bytes/],
    [65_535, /65535 bytes; a BIOS is a multiple of 65536/],
    [17 * MIB, /at most 16777216/],
  ] as const) {
    const bios = join(folder, `wrong-${size}`)
    writeFileSync(bios, new Uint8Array(size))
    const error = t.throws(() => readBios(bios, []), { message }) as VmmError
    t.is(error.code, 'E_FIRMWARE_SIZE')
  }
  const bios = join(folder, 'wrong-0')
  await t.throwsAsync(VirtualMachine.start({ memory: 16 * MIB, accel: 'tcg', bios }), {
    code: 'E_FIRMWARE_SIZE',
  })
})

test('flash of the wrong size is refused, and its images are free again', async (t) => {
  const chip = (id: string, size: number): DriveConfig => {
    const file = join(folder, id)
    writeFileSync(file, new Uint8Array(size))
    return { id, file, format: 'raw' }
  }
  const limit = /a flash chip is a multiple of 4096 bytes, and all together have at most 8388608/
  for (const [code, vars, message] of [
    [0, 4096, /^system\.flash0: 'code' has 0 bytes; /],
    [6144, 4096, /^system\.flash0: 'code' has 6144 bytes; /],
    [4096, 4608, /^system\.flash1: 'vars' has 4608 bytes; /],
    [6 * MIB, 4 * MIB, /^system\.flash1: 'vars' has 4194304 bytes/],
    [9 * MIB, 4096, /^system\.flash0: 'code' has 9437184 bytes/],
  ] as const) {
    const drives = [chip('code', code), chip('vars', vars)]
    const flash = ['code', 'vars']
    for (let again = 0; again < 2; again++) {
      const refused = { memory: 16 * MIB, accel: 'tcg', drives, flash, log: () => {} } as const
      const error = await t.throwsAsync<VmmError>(VirtualMachine.start(refused), { message })
      t.is(error.code, 'E_FIRMWARE_SIZE')
      t.regex(error.message, limit)
    }
  }
})

test('firmware is found by path, in given folders, then in those of distributions', (t) => {
  const name = 'bios-256k.bin'
  const own = writeImage(folder, name, new Uint8Array(1))
  t.is(findFirmware({ ...PC_BIOS, name: own }), own)
  t.is(findFirmware(PC_BIOS, ['/nowhere', folder], []), own)
  t.is(findFirmware(PC_BIOS, [], ['/nowhere', folder]), own)
  const error = t.throws(() => findFirmware(PC_BIOS, ['/mine'], ['/standard']), {
    message:
      /PC BIOS 'bios-256k.bin'.*none of \/mine, \/standard.*apt-get install seabios.*-L.*-bios/,
  }) as VmmError
  t.like(error, { code: 'E_NO_FIRMWARE', fields: { file: name, package: 'seabios' } })
  t.throws(() => readBios(join(folder, 'absent'), []), { code: 'E_NO_FIRMWARE' })
  t.throws(() => findFirmware({ ...PC_BIOS, name: folder }, [], []), { code: 'E_NO_FIRMWARE' })
})

test('boot options that cannot be are refused', (t) => {
  checkBootOptions({ order: 'dcn', once: 'a', splashTime: 0, rebootTimeout: -1 })
  for (const [options, message] of [
    [{ order: 'q' }, /Invalid boot device 'q'/],
    [{ once: 'dd' }, /'d' was given twice/],
    [{ order: 'abcd' }, /Too many boot devices/],
    [{ splashTime: 65_536 }, /between 0 and 65535/],
    [{ rebootTimeout: Number.NaN }, /between -1 and 65535/],
  ] as const) {
    t.throws(() => checkBootOptions(options), { code: 'E_CONFIG', message })
  }
})
