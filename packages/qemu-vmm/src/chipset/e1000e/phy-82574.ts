import type { PhyModel } from '../e1000/phy.ts'

const PAGE = 22
const OEM_BITS = 25

/** The PHY of the 82574 (Intel 82574 data sheet, 10.1), as QEMU 7.2 has it. */
export const PHY_82574: PhyModel = {
  common: [
    [0, 0x1140, true],
    [1, 0x794d, false],
    [2, 0x0141, false],
    [3, 0x0cb1, false],
    [4, 0x0de1, true],
    [5, 0x07e0, false],
    [6, 0x0004, false],
    [7, 0x2001, true],
    [8, 0x0000, false],
    [9, 0x0f00, true],
    [10, 0x3c00, false],
    [15, 0x3000, false],
    [PAGE, 0x0000, true],
  ],
  page: { register: PAGE, mask: 0x7f },
  restart: { register: OEM_BITS, bit: 0x0400 },
  pages: {
    // The copper side.
    0: [
      [16, 0x3360, true],
      [17, 0xac08, false],
      [18, 0x0000, true],
      [19, 0x0000, false],
      [20, 0x0000, true],
      [21, 0x0000, false],
      [OEM_BITS, 0x0000, true],
      [26, 0x0000, true],
      [29, 0x0000, true],
      [30, 0x0000, true],
    ],
    // The side of the MAC.
    2: [
      [16, 0x0088, true],
      [18, 0x0000, true],
      [19, 0x0000, false],
      [21, 0x1046, true],
    ],
    // Lamps.
    3: [
      [16, 0x0000, true],
      [17, 0x0000, true],
      [18, 0x4005, true],
      [19, 0x0000, true],
    ],
    5: [
      [20, 0x0000, false],
      [21, 0x0000, false],
    ],
    6: [[17, 0x0000, false]],
  },
}
