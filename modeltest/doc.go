package modeltest
