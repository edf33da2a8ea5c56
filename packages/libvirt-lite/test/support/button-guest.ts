import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

// prettier-ignore
const CODE = [
  0xb0, 0xf1, 0xe6, 0xb2, // mov al, 0xf1; out 0xb2, al: the SMI command that enables ACPI
  0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // PM1 enable, port 0x602: the power button
  0xba, 0xf8, 0x03, 0xb0, 0x52, 0xee, // 'R' on the serial port
  0xba, 0x00, 0x06, // PM1 status, port 0x600
  0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // in ax, dx; test ah, 1; jz back: the button's bit
  0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // PM1 control, port 0x604: sleep in S5, which is off
  0xf4, 0xeb, 0xfd, // hlt for ever
]

/** A disk with a boot program that writes `R` on the serial port, and powers off when the power button is pressed. */
export function buttonDisk(folder: string): string {
  const sector = Buffer.alloc(512)
  Buffer.from(CODE).copy(sector)
  sector.writeUInt16LE(0xaa55, 510)
  const path = join(folder, 'button.img')
  writeFileSync(path, Buffer.concat([sector, Buffer.alloc((1 << 20) - 512)]))
  return path
}

/** The `<disk>` element of an image. */
export function diskXml(path: string, extra: string = ''): string {
  return `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${path}'/><target dev='vda' bus='virtio'/>${extra}</disk>`
}
