"""Runs a program of a desktop, and does what a user would: looks at what is on the screen, and presses things.

Lines on the input are commands as lists in JSON, each answered by one line of JSON on descriptor 3:
  ["see"]                   what can be seen: pairs of role and name
  ["read"]                  the text of terminals
  ["press", ROLE, NAME]     has what is called so do what it is for
  ["click", ROLE, NAME]     clicks on the middle of it
The program ends with the input."""

import json
import subprocess
import sys
import warnings

warnings.simplefilter('ignore')
import gi

gi.require_version('Atspi', '2.0')
from gi.repository import Atspi, GLib

# What is deeper or has more neighbours is no window of a program that is tested.
DEPTH = 16
NEIGHBOURS = 80


def walk(node, depth=DEPTH):
    """All that can be seen below a node. What goes away meanwhile is left out."""
    try:
        if node is None:
            return
        if depth < DEPTH - 1 and not node.get_state_set().contains(Atspi.StateType.SHOWING):
            return
        yield node
        if depth == 0:
            return
        for i in range(min(node.get_child_count(), NEIGHBOURS)):
            yield from walk(node.get_child_at_index(i), depth - 1)
    except GLib.Error:
        return


def widgets(pid):
    desktop = Atspi.get_desktop(0)
    for i in range(desktop.get_child_count()):
        program = desktop.get_child_at_index(i)
        try:
            if program is None or program.get_process_id() != pid:
                continue
        except GLib.Error:
            continue
        for node in walk(program):
            try:
                yield node, node.get_role_name(), node.get_name() or ''
            except GLib.Error:
                continue


def answer(pid, command, role=None, name=None):
    if command == 'see':
        return [[role, name] for _, role, name in widgets(pid) if name != '']
    if command == 'read':
        terminals = [node for node, role, _ in widgets(pid) if role == 'terminal']
        return [Atspi.Text.get_text(node, 0, Atspi.Text.get_character_count(node)) for node in terminals]
    for node, its_role, its_name in widgets(pid):
        if (its_role, its_name) != (role, name):
            continue
        if command == 'press':
            return node.do_action(0)
        if command == 'click':
            box = Atspi.Component.get_extents(node, Atspi.CoordType.SCREEN)
            return Atspi.generate_mouse_event(box.x + box.width // 2, box.y + box.height // 2, 'b1c')
    return False


def main(command):
    answers = open(3, 'w')
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        for line in sys.stdin:
            try:
                print(json.dumps(answer(program.pid, *json.loads(line))), file=answers, flush=True)
            except GLib.Error as error:
                # It has just gone, or is busy: whoever asks looks again.
                print(json.dumps({'error': error.message}), file=answers, flush=True)
    finally:
        program.kill()
        program.wait()


main(sys.argv[1:])
