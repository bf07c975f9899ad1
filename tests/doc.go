// Package tests holds what is tested about the repository as a whole: the import rules and the purity rules of its packages
// (arch_test.go), the links in its documentation (doclinks_test.go), and that every fault of the old design has a named test
// (faults_meta_test.go).
//
// The folders below hold the harness for a real engine (enginetest), and the programs behind the targets of the Makefile (demo,
// setup, suite).
package tests
