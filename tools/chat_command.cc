#include "tools/chat_command.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tools/answer_printer.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/sampling_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(std::string, system, "", "a system message that the conversation starts with");

namespace orrery {
namespace {

void Add(v1::MessageRole role, const std::string& content, v1::ChatMessages& conversation) {
  v1::ChatMessage& message = *conversation.add_message();
  message.set_role(role);
  message.set_content(content);
}

v1::ChatMessages NewConversation() {
  v1::ChatMessages conversation;
  const std::string system = absl::GetFlag(FLAGS_system);
  if (!system.empty()) Add(v1::MESSAGE_ROLE_SYSTEM, system, conversation);
  return conversation;
}

// One turn. After an error the conversation is what it was before.
void Turn(const std::string& text, OrreryClient& client, Terminal& out,
          v1::ChatMessages& conversation) {
  v1::GenerateRequest request = RequestFromFlags();
  *request.mutable_messages() = conversation;
  Add(v1::MESSAGE_ROLE_USER, text, *request.mutable_messages());
  AnswerPrinter printer(&out);
  const absl::StatusOr<Answer> answer =
      client.Generate(request, absl::GetFlag(FLAGS_timeout), [&](const v1::Delta& delta) {
        printer.Print(delta);
        return true;
      });
  printer.Finish();
  if (!answer.ok()) {
    out.Print(out.Red(absl::StrCat("error: ", answer.status().message())), "\n");
    return;
  }
  if (answer->finished.reason() == v1::FINISH_REASON_LENGTH) {
    out.Print(out.Dim("(cut off by the length limit)"), "\n");
  }
  conversation = std::move(*request.mutable_messages());
  Add(v1::MESSAGE_ROLE_ASSISTANT, TrimmedContent(answer->content), conversation);
}

absl::Status Chat(Terminal& out) {
  ASSIGN_OR_RETURN(OrreryClient client, ConnectFromFlags());
  const bool is_interactive = isatty(STDIN_FILENO) == 1 && out.is_tty();
  if (is_interactive) {
    out.Print(out.Dim("/new starts a new conversation, /quit or Ctrl-D ends"), "\n");
  }
  v1::ChatMessages conversation = NewConversation();
  std::string line;
  while (true) {
    if (is_interactive) out.Print(out.Bold("> "));
    if (!std::getline(std::cin, line)) break;
    const std::string text(absl::StripAsciiWhitespace(line));
    if (text.empty()) continue;
    if (text == "/quit") break;
    if (text == "/new") {
      conversation = NewConversation();
      out.Print(out.Dim("(a new conversation)"), "\n");
    } else if (text[0] == '/') {
      out.Print(out.Red(absl::StrCat("unknown command ", text, "; there are /new and /quit")),
                "\n");
    } else {
      Turn(text, client, out, conversation);
    }
  }
  if (is_interactive) out.Print("\n");
  return absl::OkStatus();
}

}  // namespace

int RunChat(const std::vector<std::string>&) {
  Terminal out(stdout);
  const absl::Status status = Chat(out);
  if (status.ok()) return 0;
  return Fail("chat", status);
}

}  // namespace orrery
