package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Everything that is measured, and everything that would disturb it, is a process of its own: it obeys lines on its standard input
// and answers each with one line.

// child is the other side of such a process.
type child struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

// spawn starts this program again in another role, and gives its first line.
func spawn(environment []string, args ...string) (c *child, ready string) {
	self, err := os.Executable()
	must(err)
	c = &child{command: exec.Command(self, args...)}
	c.command.Stderr, c.command.Env = os.Stderr, append(os.Environ(), environment...)
	c.in, err = c.command.StdinPipe()
	must(err)
	out, err := c.command.StdoutPipe()
	must(err)
	must(c.command.Start())
	c.out = bufio.NewScanner(out)
	return c, c.answer(strings.Join(args, " "))
}

func (c *child) answer(to string) string {
	if !c.out.Scan() {
		fail("%s: the process has ended", to)
	}
	text := c.out.Text()
	if rest, ok := strings.CutPrefix(text, "error: "); ok {
		fail("%s: %s", to, rest)
	}
	return text
}

// order tells the process to do something and gives its answer.
func (c *child) order(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	_, err := fmt.Fprintln(c.in, line)
	must(err)
	return c.answer(line)
}

func (c *child) number(format string, args ...any) (f float64) {
	_, err := fmt.Sscan(c.order(format, args...), &f)
	must(err)
	return f
}

// time is an answer that is a moment.
func (c *child) time(format string, args ...any) time.Time {
	var nanos int64
	_, err := fmt.Sscan(c.order(format, args...), &nanos)
	must(err)
	return time.Unix(0, nanos)
}

func (c *child) end() {
	_ = c.in.Close()
	_ = c.command.Wait() // what it had to say it has said
}

// obeying is the process's side: it answers until its standard input ends.
func obeying(obey func(words []string) (string, error)) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := obey(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
}

// numbers reads the words of an order.
func numbers(words []string, into ...any) error {
	_, err := fmt.Sscan(strings.Join(words, " "), into...)
	return err
}

func nanos(t time.Time) string { return fmt.Sprint(t.UnixNano()) }

// failure ends the program: nothing can be measured without what failed.
type failure struct{ err error }

func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}
