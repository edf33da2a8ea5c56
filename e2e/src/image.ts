// Guests of a few instructions, as multiboot-1 images.
import { Buffer } from 'node:buffer'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Assembler, Cond, Reg } from 'kvm-core/testing'

/** Where the code of an image begins. */
export const codeAddress = 0x10_0020

/** An assembler for 32-bit code, whose result `multiboot` takes. */
export function guestCode(): Assembler {
  return new Assembler(32, codeAddress)
}

/** A multiboot-1 image with address fields (Multiboot specification 0.6.96, section 3.1.3): header, then code. */
export function multiboot(code: Uint8Array): Buffer {
  const magic = 0x1bad_b002
  const flags = 1 << 16
  const load = codeAddress - 0x20
  const end = codeAddress + code.length
  const fields = [magic, flags, -(magic + flags), load, load, end, end + 0x1000, codeAddress]
  const header = Buffer.alloc(0x20)
  for (const [i, field] of fields.entries()) header.writeInt32LE(field | 0, i * 4)
  return Buffer.concat([header, code])
}

/** Adds code that prints AL on COM1 when the transmitter is ready. Uses DX and AH. */
export function printAl(code: Assembler, label: string): Assembler {
  return code
    .db(0x88, 0xc4) // mov ah, al
    .movImm(Reg.dx, 0x3fd)
    .label(label)
    .inDx8()
    .db(0xa8, 0x20) // test al, 0x20
    .jcc(Cond.z, label)
    .movImm(Reg.dx, 0x3f8)
    .db(0x88, 0xe0) // mov al, ah
    .outDx8()
}

/** Adds code that prints text on COM1. */
export function printText(code: Assembler, text: string): Assembler {
  for (const [i, char] of [...text].entries()) {
    code.movImm8(Reg.ax, char.charCodeAt(0))
    printAl(code, `print ${code.here} ${i}`)
  }
  return code
}

/** Adds code that powers the machine off through ACPI's PM1 control register. */
export function powerOff(code: Assembler): Assembler {
  return code
    .movImm(Reg.dx, 0x604)
    .movImm(Reg.ax, 0x2000)
    .db(0x66, 0xef) // out dx, ax
    .cli()
    .hlt()
}

/** Gives `work` a file with this image, and removes it afterwards. */
export async function withImage<T>(
  image: Uint8Array,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'e2e-image-'))
  try {
    const path = join(folder, 'kernel')
    writeFileSync(path, image)
    return await work(path)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
