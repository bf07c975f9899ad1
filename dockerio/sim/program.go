package sim

import (
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// Program is what a container's process does. There is no file system and no process: what a command would do is guessed from its
// words, and what is not understood runs until it is killed.
type Program struct {
	// Output it writes, each line so long after the start.
	Output []Output
	// Ends: by itself after RunFor, with Code. Otherwise it runs until it is stopped.
	Ends   bool
	RunFor time.Duration
	Code   int
	// Traps are the signals it ends on by itself, with the exit code; SIGKILL ends it anyhow. The first process of a container
	// ignores a signal it does not ask for.
	Traps map[int]int
	// Missing is the engine's text when the command cannot be run.
	Missing string
}

// Output is one line of a program.
type Output struct {
	After  time.Duration
	Stderr bool
	Text   string // without the line's end
}

// Signals that containers get.
const (
	sigInt  = 2
	sigQuit = 3
	sigKill = 9
	sigTerm = 15
)

const runtimeFailed = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "

// servers are commands that run until they are told to end, and then do so at once.
var servers = map[string]bool{"nginx": true, "redis-server": true, "postgres": true, "httpd": true, "docker-entrypoint.sh": true}

// applets are further commands that an image has; they do nothing, for ever with these arguments.
var applets = map[string]bool{"tail": true, "top": true, "yes": true, "nc": true, "watch": true, "ping": true}

// ParseProgram guesses what a command does. Interactive: its input is open, so that a shell waits for it.
func ParseProgram(command []string, interactive bool) Program {
	if len(command) == 0 {
		return Program{Missing: "No command specified"}
	}
	name, args := path.Base(command[0]), command[1:]
	switch {
	case path.IsAbs(command[0]) && !strings.HasPrefix(command[0], "/bin/") && !strings.HasPrefix(command[0], "/usr/") && !servers[name]:
		return Program{Missing: runtimeFailed + "exec: " + strconv.Quote(command[0]) + ": stat " + command[0] + ": no such file or directory: unknown"}
	case name == "sh" || name == "bash" || name == "ash":
		if len(args) >= 2 && args[0] == "-c" {
			return parseScript(args[1])
		}
		return Program{Ends: !interactive}
	case servers[name]:
		return Program{Traps: map[int]int{sigTerm: 0, sigInt: 0, sigQuit: 0}}
	case applets[name]:
		return Program{}
	}
	p := Program{Ends: true}
	if p.statement(command) {
		return p
	}
	return Program{Missing: runtimeFailed + "exec: " + strconv.Quote(command[0]) + ": executable file not found in $PATH: unknown"}
}

// parseScript understands echo, sleep, exit, true, false and trap; a loop runs for ever.
func parseScript(script string) Program {
	p := Program{Ends: true, Traps: map[int]int{}}
	for _, statement := range strings.FieldsFunc(script, func(r rune) bool { return r == ';' || r == '\n' }) {
		words := shellWords(statement)
		switch {
		case len(words) == 0:
		case words[0] == "exit":
			p.Code = 0
			if len(words) > 1 {
				p.Code, _ = strconv.Atoi(words[1])
			}
			return p
		case words[0] == "trap" && len(words) > 2:
			code := 0
			if _, text, ok := strings.Cut(words[1], "exit "); ok {
				code, _ = strconv.Atoi(strings.TrimSpace(text))
			}
			for _, name := range words[2:] {
				if signal, ok := SignalNumber(name); ok {
					p.Traps[signal] = code
				}
			}
		case words[0] == "while" || words[0] == "until" || words[0] == "exec" && len(words) > 1 && words[1] == "sleep":
			p.Ends = false
			return p
		case p.statement(words):
			if !p.Ends {
				return p
			}
		default:
			p.Output = append(p.Output, Output{p.RunFor, true, "sh: " + words[0] + ": not found"})
			p.Code = 127
		}
	}
	return p
}

// statement adds one command to the program, and tells whether it is known.
func (p *Program) statement(words []string) bool {
	p.Code = 0
	switch path.Base(words[0]) {
	case "true", "cat", ":", "ls", "cd", "export", "set":
	case "false":
		p.Code = 1
	case "echo":
		stderr := len(words) > 1 && words[len(words)-1] == ">&2"
		if stderr {
			words = words[:len(words)-1]
		}
		p.Output = append(p.Output, Output{p.RunFor, stderr, strings.Join(words[1:], " ")})
	case "sleep":
		if len(words) < 2 {
			p.Code = 1
			break
		}
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil || seconds > math.MaxInt32 {
			p.Ends = false // "infinity"
			break
		}
		p.RunFor += time.Duration(seconds * float64(time.Second))
	default:
		return false
	}
	return true
}

// shellWords takes a statement apart at blanks, minding quotes.
func shellWords(text string) []string {
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			if begun {
				words, begun = append(words, word.String()), false
				word.Reset()
			}
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

var signals = map[string]int{
	"HUP": 1, "INT": sigInt, "QUIT": sigQuit, "ABRT": 6, "KILL": sigKill, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14,
	"TERM": sigTerm, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "WINCH": 28,
}

// SignalNumber reads "KILL", "SIGKILL" or "9".
func SignalNumber(text string) (int, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return n, n > 0 && n < 65
	}
	n, ok := signals[strings.TrimPrefix(strings.ToUpper(text), "SIG")]
	return n, ok
}
