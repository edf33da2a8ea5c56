// A program that makes code, executes it and throws it away, as ELF file without libraries.
import { Assembler, Cond, Reg } from 'kvm-core/testing'

/** Bytes of code that are made at once. */
const length = 1 << 16
/** Each piece of them is a block of its own. */
const piece = 16
/** Executions of each: enough to be translated. */
const times = 30
const base = 0x40_0000
const headers = 0x78

function next(state: number): number {
  let mixed = state ^ (state << 13)
  mixed ^= mixed >>> 17
  mixed ^= mixed << 5
  return mixed >>> 0
}

/** What the program prints: eight digits and the end of the line. */
export function churnResult(seed: number, rounds: number): string {
  let [state, sum] = [seed, 0]
  for (let round = 0; round < rounds; round++) {
    const values = Array.from({ length: length / piece }, () => (state = next(state)))
    for (let i = 0; i < times; i++) {
      for (const value of values) sum = Math.imul(sum ^ value, 9)
    }
  }
  return `${(sum >>> 0).toString(16).padStart(8, '0')}\n`
}

/**
 * The program: `rounds` times it maps memory, fills it with code that nobody saw before, calls that and
 * unmaps it.
 * @param seed not 0
 */
export function churnProgram(seed: number, rounds: number): Uint8Array {
  const code = new Assembler(64, base + headers)
  const linux = (number: number): Assembler => code.db(0xb8).value(number, 4)
  const call = (): Assembler => code.db(0x0f, 0x05) // syscall
  code.db(0x41, 0xbc).value(seed, 4) // mov r12d, seed
  code.db(0x41, 0xbd).value(rounds, 4) // mov r13d, rounds
  code.db(0x45, 0x31, 0xf6) // xor r14d, r14d
  code.label('round')
  linux(9) // mmap(0, length, RWX, PRIVATE | ANONYMOUS, -1, 0)
  code.db(0x31, 0xff, 0xbe).value(length, 4) // xor edi, edi; mov esi, length
  code.db(0xba).value(7, 4).db(0x41, 0xba).value(0x22, 4) // mov edx, 7; mov r10d, 0x22
  code.db(0x49, 0xc7, 0xc0).value(-1, 4).db(0x45, 0x31, 0xc9) // mov r8, -1; xor r9d, r9d
  call().db(0x48, 0x89, 0xc3, 0x48, 0x89, 0xc5) // mov rbx, rax; mov rbp, rax
  code.db(0x4c, 0x8d, 0xbb).value(length, 4) // lea r15, [rbx + length]
  code.label('fill')
  for (const [shift, by] of [
    [0xe0, 13],
    [0xe8, 17],
    [0xe0, 5],
  ] as const) {
    code.db(0x44, 0x89, 0xe0, 0xc1, shift, by, 0x41, 0x31, 0xc4) // mov eax, r12d; shl/shr; xor r12d, eax
  }
  // xor eax, r12d's value; lea eax, [rax + rax * 8]; nop; jmp to the next piece
  code.db(0xc6, 0x45, 0, 0x35, 0x44, 0x89, 0x65, 1) // mov byte [rbp], 0x35; mov [rbp + 1], r12d
  code.db(0xc7, 0x45, 5, 0x8d, 4, 0xc0, 0x90) // mov dword [rbp + 5], ...
  code.db(0x66, 0xc7, 0x45, 9, 0xeb, piece - 11) // mov word [rbp + 9], ...
  code.db(0x48, 0x83, 0xc5, piece, 0x4c, 0x39, 0xfd) // add rbp, piece; cmp rbp, r15
  code.jcc(Cond.b, 'fill')
  code.db(0xc6, 0x45, 9 - piece, 0xc3) // mov byte [rbp - 7], 0xc3: the last one returns
  code.db(0xbd).value(times, 4) // mov ebp, times
  code.label('again').db(0x44, 0x89, 0xf0, 0xff, 0xd3) // mov eax, r14d; call rbx
  code.db(0x41, 0x89, 0xc6, 0xff, 0xcd).jcc(Cond.nz, 'again') // mov r14d, eax; dec ebp
  linux(11) // munmap(rbx, length)
  code.db(0x48, 0x89, 0xdf, 0xbe).value(length, 4)
  call().db(0x41, 0xff, 0xcd).jcc(Cond.z, 'done') // dec r13d
  code.movLabel(Reg.ax, 'round').db(0xff, 0xe0) // too far for a short jump
  code.label('done')
  code.db(0xb9).value(8, 4).db(0x48, 0x83, 0xec, 16, 0x48, 0x89, 0xe7) // mov ecx, 8; sub rsp, 16; mov rdi, rsp
  code.label('digit').db(0x41, 0xc1, 0xc6, 4, 0x44, 0x89, 0xf0) // rol r14d, 4; mov eax, r14d
  code.db(0x83, 0xe0, 15, 0x83, 0xf8, 10).jcc(Cond.b, 'decimal') // and eax, 15; cmp eax, 10
  code.db(0x83, 0xc0, 0x27).label('decimal').db(0x83, 0xc0, 0x30) // add eax, 0x27; add eax, 0x30
  code.db(0x88, 0x07, 0x48, 0xff, 0xc7, 0xff, 0xc9).jcc(Cond.nz, 'digit') // mov [rdi], al; inc rdi; dec ecx
  code.db(0xc6, 0x07, 0x0a) // mov byte [rdi], '\n'
  linux(1) // write(1, rsp, 9)
  code.db(0xbf).value(1, 4).db(0x48, 0x89, 0xe6, 0xba).value(9, 4)
  call()
  linux(60) // exit(0)
  code.db(0x31, 0xff)
  call()
  return elf(code.build())
}

/** An ELF file with one segment that is everything. */
function elf(code: Uint8Array): Uint8Array {
  const file = new Assembler(64)
  const size = headers + code.length
  file.db(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1).value(0, 8).db(0) // ELF64, little-endian
  file.value(2, 2).value(62, 2).value(1, 4) // executable, x86-64
  file
    .value(base + headers, 8)
    .value(0x40, 8)
    .value(0, 8)
  file.value(0, 4).value(64, 2).value(56, 2).value(1, 2).value(64, 2).value(0, 2).value(0, 2)
  file.value(1, 4).value(5, 4).value(0, 8).value(base, 8).value(base, 8) // loaded, read and executed
  file.value(size, 8).value(size, 8).value(0x1000, 8)
  return Uint8Array.of(...file.build(), ...code)
}
