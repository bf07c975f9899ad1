// Package example has the test that docs/testing.md shows, word for word.
package example
