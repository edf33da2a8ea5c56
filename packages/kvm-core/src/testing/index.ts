/** Helpers for tests of guests and devices: a tiny assembler and ready-made CPU modes. */
export { Assembler, Cond, Reg } from './assembler.ts'
export type { CodeBits } from './assembler.ts'
export { SELECTOR, TABLES, enterLong, enterProtected, enterReal } from './modes.ts'
