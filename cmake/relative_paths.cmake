# Makes the paths in a PTX text those of the source tree: messages name files as the repository does, wherever it was built.
file(READ ${FILE} text)
string(REPLACE "\"${BUILD}" "\"" text "${text}")
string(REPLACE "\"${ROOT}" "\"" text "${text}")
file(WRITE ${FILE} "${text}")
